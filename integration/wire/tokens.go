package wire

import (
	"net/http"
	"sync"
)

// tokens remembers what was launched with which client token, for as long as the wire lives. EC2
// remembers it for a day.
type tokens struct {
	mu      sync.Mutex
	records map[string]*record // by token; guarded by mu
}

// record is the first call with a token that launched something.
type record struct {
	mu     sync.Mutex // locked during the call, so that a second call with the token waits for its answer
	done   bool       // guarded by mu
	params string     // guarded by mu
	answer answer     // guarded by mu
}

// once makes the call, unless an earlier call with the token has succeeded. Then it returns that
// call's answer, or, if the parameters differ, the error that EC2 gives.
func (t *tokens) once(token, params string, call func() (answer, error)) (answer, error) {
	r := t.record(token)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done && r.params != params {
		return ec2Error(http.StatusBadRequest, "IdempotentParameterMismatch",
			"the client token was used with other parameters"), nil
	}
	if r.done {
		return r.answer, nil
	}
	a, err := call()
	if err == nil && a.status == http.StatusOK {
		r.done, r.params, r.answer = true, params, a
	}
	return a, err
}

func (t *tokens) record(token string) *record {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.records == nil {
		t.records = make(map[string]*record)
	}
	if t.records[token] == nil {
		t.records[token] = &record{}
	}
	return t.records[token]
}
