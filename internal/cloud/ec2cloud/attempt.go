package ec2cloud

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"

	"cloudmaster/internal/cloud"
)

const (
	maxToken    = 64   // of EC2's client tokens
	maxAttempts = 1000 // remembered
)

// try is one request that a part of a launch may make.
type try struct {
	choice

	suffix string // tells the tries of a launch apart; stable while the configuration is
	token  string
	count  int
	least  int
	again  bool // it was made before, and may have started something then
}

func (t *try) attempt(name, image string) attempt {
	return attempt{suffix: t.suffix, name: name, image: image}
}

// attempt is a try that was made and may have started something.
type attempt struct {
	suffix string
	name   string // the spec's image
	image  string // the id that it stood for then
}

// tries are the requests that a part of a launch may make, in order: first for all instances by each of the choices,
// then for as many as each choice has room for.
func (p *part) tries(spec *cloud.Spec) []try {
	var out []try
	add := func(mark string, c choice, least int) {
		suffix := p.name + mark + strconv.Itoa(c.number)
		out = append(out, try{
			choice: c, suffix: suffix, token: clientToken(spec.Token, suffix), count: p.count, least: least,
		})
	}
	for _, c := range p.choices {
		add("-", c, p.count)
	}
	if p.count == 1 {
		return out
	}
	for _, c := range p.choices {
		add("-p", c, 1)
	}
	return out
}

// order puts the try first that may have started something already. Another try may be made only when EC2 has
// answered that the first one started nothing.
func order(all []try, last attempt, begun bool) []try {
	i := slices.IndexFunc(all, func(t try) bool { return begun && t.suffix == last.suffix })
	if i <= 0 {
		return all
	}
	return slices.Concat(all[i:i+1], all[:i], all[i+1:])
}

// clientToken is EC2's token for one try of a launch.
func clientToken(token, suffix string) string {
	if len(token)+len(suffix) <= maxToken {
		return token + suffix
	}
	sum := sha256.Sum256([]byte(token))
	return fmt.Sprintf("%x", sum[:24]) + suffix
}

// memory keeps the newest values, each by a token. The zero value is empty.
type memory[V any] struct {
	byToken map[string]V
	age     []string // tokens, oldest first
}

func (m *memory[V]) get(token string) (V, bool) {
	v, found := m.byToken[token]
	return v, found
}

func (m *memory[V]) put(token string, v V) {
	if m.byToken == nil {
		m.byToken = make(map[string]V)
	}
	if _, ok := m.byToken[token]; !ok {
		m.age = append(m.age, token)
	}
	m.byToken[token] = v
	if len(m.age) > maxAttempts {
		delete(m.byToken, m.age[0])
		m.age = m.age[1:]
	}
}

func (m *memory[V]) drop(token string) {
	if _, ok := m.byToken[token]; ok {
		delete(m.byToken, token)
		m.age = slices.DeleteFunc(m.age, func(t string) bool { return t == token })
	}
}

func (c *Cloud) recall(key string) (attempt, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.attempts.get(key)
}

func (c *Cloud) remember(key string, at attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts.put(key, at)
}

// forget forgets this attempt, not another of the same part of a launch.
func (c *Cloud) forget(key string, at attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, found := c.attempts.get(key); found && old == at {
		c.attempts.drop(key)
	}
}
