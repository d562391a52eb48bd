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

// try is one request that a launch may make.
type try struct {
	suffix string // tells the tries of a launch apart; stable while the configuration is
	token  string
	subnet string // empty: EC2 chooses
	least  int
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

// tries are the requests that a launch may make, in order: first for all instances in each of the subnets, then
// for as many as each subnet has room for.
func tries(spec *cloud.Spec, conf *Launch) []try {
	subnets := conf.Subnets
	if len(subnets) == 0 {
		subnets = []string{""}
	}
	var out []try
	add := func(suffix, subnet string, least int) {
		out = append(out, try{suffix: suffix, token: clientToken(spec.Token, suffix), subnet: subnet, least: least})
	}
	for i, s := range subnets {
		add("-"+strconv.Itoa(i), s, spec.Count)
	}
	if spec.Count == 1 {
		return out
	}
	for i, s := range subnets {
		add("-p"+strconv.Itoa(i), s, 1)
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

// attempts are the newest attempts, by the launch's token. The zero value is empty.
type attempts struct {
	byToken map[string]attempt
	age     []string // tokens, oldest first
}

func (a *attempts) put(token string, at attempt) {
	if a.byToken == nil {
		a.byToken = make(map[string]attempt)
	}
	if _, ok := a.byToken[token]; !ok {
		a.age = append(a.age, token)
	}
	a.byToken[token] = at
	if len(a.age) > maxAttempts {
		delete(a.byToken, a.age[0])
		a.age = a.age[1:]
	}
}

func (a *attempts) drop(token string) {
	if _, ok := a.byToken[token]; ok {
		delete(a.byToken, token)
		a.age = slices.DeleteFunc(a.age, func(t string) bool { return t == token })
	}
}

func (c *Cloud) recall(token string) (attempt, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.attempts.byToken[token]
	return at, ok
}

func (c *Cloud) remember(token string, at attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts.put(token, at)
}

// forget forgets this attempt, not another of the same launch.
func (c *Cloud) forget(token string, at attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.attempts.byToken[token] == at {
		c.attempts.drop(token)
	}
}
