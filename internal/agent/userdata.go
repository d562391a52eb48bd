package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// EnvUserData is the environment variable that holds the user data of an
// instance that is a local process.
const EnvUserData = "CLOUDMASTER_USER_DATA"

// MaxUserData is the largest document a cloud passes on, in bytes.
const MaxUserData = cloud.MaxUserData

// ErrNoUserData means that nobody has told this process what it is.
var ErrNoUserData = errors.New("no user data: this process was not started by a controller")

// UserData is what a new instance is told: a YAML document. It holds no secrets.
type UserData struct {
	Deployment     string          `yaml:"deployment"`
	Pool           pool.Name       `yaml:"pool"`
	InstanceID     pool.InstanceID `yaml:"instance_id,omitempty"` // where the cloud does not tell the instance itself
	Backend        string          `yaml:"backend"`               // address, as backend.Open takes it
	Queues         Queues          `yaml:"queues"`
	StatusInterval time.Duration   `yaml:"status_interval,omitempty"`
	Settings       map[string]any  `yaml:"settings,omitempty"` // the service's own

	// Host is the name or address that clients reach the instance by. It is no part of the
	// document: Identify has it from the cloud's metadata, and leaves it empty elsewhere.
	Host string `yaml:"-"`
}

// Queues are the names of the queues an instance uses.
type Queues struct {
	Work   string `yaml:"work"`
	Status string `yaml:"status"`
}

// Encode writes the document.
func (u UserData) Encode() ([]byte, error) {
	out, err := yaml.Marshal(u)
	if err != nil {
		return nil, fmt.Errorf("encode user data: %w", err)
	}
	if len(out) > MaxUserData {
		return nil, fmt.Errorf("encode user data: %d bytes, the most is %d: shorten the pool's settings", len(out), MaxUserData)
	}
	return out, nil
}

// DecodeUserData reads a document. Unknown keys are errors that name line and key;
// all that is missing is named at once.
func DecodeUserData(doc []byte) (UserData, error) {
	return decode(doc, false)
}

// decode reads a document, which has to say who the instance is if nobody else does.
func decode(doc []byte, needID bool) (UserData, error) {
	if len(doc) > MaxUserData {
		return UserData{}, fmt.Errorf("user data: %d bytes, the most is %d", len(doc), MaxUserData)
	}
	var u UserData
	dec := yaml.NewDecoder(bytes.NewReader(doc))
	dec.KnownFields(true)
	if err := dec.Decode(&u); err != nil && !errors.Is(err, io.EOF) { // EOF: an empty document, in which all is missing
		return UserData{}, fmt.Errorf("user data: %w", onOneLine(err))
	}
	if missing := u.missing(needID); len(missing) > 0 {
		return UserData{}, fmt.Errorf("user data: missing: %s", strings.Join(missing, ", "))
	}
	if u.StatusInterval < 0 {
		return UserData{}, fmt.Errorf("user data: status_interval is %s, less than 0", u.StatusInterval)
	}
	return u, nil
}

// onOneLine is what is wrong with a document in one line: a console, and the journal, take each for a message.
func onOneLine(err error) error {
	if all, ok := errors.AsType[*yaml.TypeError](err); ok {
		return errors.New("yaml: " + strings.Join(all.Errors, "; "))
	}
	return err
}

// missing names the keys without which an instance cannot speak to its controller.
func (u *UserData) missing(needID bool) []string {
	var keys []string
	for _, need := range []struct {
		key  string
		gone bool
	}{
		{"pool", u.Pool == ""},
		{"instance_id", needID && u.InstanceID == ""},
		{"backend", u.Backend == ""},
		{"queues.status", u.Queues.Status == ""},
	} {
		if need.gone {
			keys = append(keys, need.key)
		}
	}
	return keys
}

// Identify finds out who this instance is: from the environment or else, on a cloud's
// machine, from its metadata, which may take half a minute. m may be nil: there is none.
// ErrNoUserData if nobody has told it.
func Identify(ctx context.Context, m Metadata) (UserData, error) {
	doc, ok := os.LookupEnv(EnvUserData)
	switch {
	case !ok && m != nil && m.OnEC2():
		return identifyByMetadata(ctx, m)
	case !ok:
		return UserData{}, fmt.Errorf("%w (%s is not set)", ErrNoUserData, EnvUserData)
	}
	u, err := decode([]byte(doc), true)
	if err != nil {
		return UserData{}, fmt.Errorf("%s: %w", EnvUserData, err)
	}
	return u, nil
}
