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

// EnvUserData is the environment variable with the user data of an instance that is a local process.
const EnvUserData = "CLOUDMASTER_USER_DATA"

// MaxUserData is the largest document a cloud passes on, in bytes.
const MaxUserData = cloud.MaxUserData

// ErrNoUserData means that this process was given no user data, so it does not know its pool and queues.
var ErrNoUserData = errors.New("no user data: this process was not started by a controller")

// UserData is what a new instance is told: a YAML document. It holds no secrets: the address of the backend names a
// file with the login.
type UserData struct {
	Deployment     string          `yaml:"deployment"`
	Pool           pool.Name       `yaml:"pool"`
	InstanceID     pool.InstanceID `yaml:"instance_id,omitempty"` // only if no metadata tells the instance its id
	Backend        string          `yaml:"backend"`               // address, as backend.Open takes it
	Queues         Queues          `yaml:"queues"`
	StatusInterval time.Duration   `yaml:"status_interval,omitempty"`
	Settings       map[string]any  `yaml:"settings,omitempty"` // the service's own
	// Address is private if clients reach the instance by its private address; public, or empty, if by its public one.
	// It is for machines whose metadata have both.
	Address string `yaml:"address,omitempty"`

	// Host is the name or address that clients reach the instance by. It is no part of the document: Identify takes it
	// from the cloud's metadata, and leaves it empty where there is none.
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
		return nil, fmt.Errorf("encode user data: %d bytes, the most is %d: shorten the pool's settings",
			len(out), MaxUserData)
	}
	return out, nil
}

// DecodeUserData reads a document. Unknown keys are errors that name line and key. Keys that are missing are all named
// in one error.
func DecodeUserData(doc []byte) (UserData, error) {
	return decode(doc, false)
}

// decode reads a document. With needID it must have the instance's id, because there is no metadata that has it.
func decode(doc []byte, needID bool) (UserData, error) {
	if len(doc) > MaxUserData {
		return UserData{}, fmt.Errorf("user data: %d bytes, the most is %d", len(doc), MaxUserData)
	}
	var u UserData
	dec := yaml.NewDecoder(bytes.NewReader(doc))
	dec.KnownFields(true)
	if err := dec.Decode(&u); err != nil && !errors.Is(err, io.EOF) { // EOF: the document is empty, see missing
		return UserData{}, fmt.Errorf("user data: %w", onOneLine(err))
	}
	if missing := u.missing(needID); len(missing) > 0 {
		return UserData{}, fmt.Errorf("user data: missing: %s", strings.Join(missing, ", "))
	}
	if u.StatusInterval < 0 {
		return UserData{}, fmt.Errorf("user data: status_interval is %s, less than 0", u.StatusInterval)
	}
	if u.Address != "" && u.Address != cloud.PrivateAddress && u.Address != cloud.PublicAddress {
		return UserData{}, fmt.Errorf("user data: address is %q, neither %s nor %s", u.Address, cloud.PrivateAddress,
			cloud.PublicAddress)
	}
	return u, nil
}

// onOneLine puts all that is wrong with a document on one line, because a console and the journal take each line for
// a message of its own.
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

// Identify finds out which instance this process is: from the environment or else, on a cloud's machine, from its
// metadata, which may take half a minute. m may be nil if there is no metadata. The error is ErrNoUserData if neither
// has user data.
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
