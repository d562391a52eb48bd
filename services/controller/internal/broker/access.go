package broker

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/pool"
)

const (
	accessDir      = "access" // in the store directory
	secretFile     = "secret"
	controllerFile = "controller"
	caFile         = "ca.pem"
	caKeyFile      = "ca-key.pem"

	accessPerm, filePerm = 0o700, 0o600
	secretSize           = 32
)

// The roles. A user's name begins with its role, and says the rest of what the user may do:
// worker/WORK/STATUS[/INSTANCE], client/WORK/DEPLOYMENT.
const (
	controllerRole = "controller"
	workerRole     = "worker"
	clientRole     = "client"
)

// access is who may log in. Passwords are made from the users' names and one secret, so nothing need be kept of an
// instance, and a controller that is started again knows the logins that an earlier one has made.
type access struct {
	dir    string
	secret []byte
}

// openAccess reads the secret, or makes it if there is none, and writes the controller's own login.
func openAccess(store string) (*access, error) {
	dir, err := filepath.Abs(filepath.Join(store, accessDir))
	if err != nil {
		return nil, fmt.Errorf("directory of logins: %w", err)
	}
	if err := os.MkdirAll(dir, accessPerm); err != nil {
		return nil, fmt.Errorf("directory of logins: %w", err)
	}
	a := &access{dir: dir}
	if a.secret, err = a.readSecret(); err != nil {
		return nil, err
	}
	return a, a.write(controllerFile, a.login(controllerRole, ""))
}

func (a *access) path(name string) string { return filepath.Join(a.dir, name) }

func (a *access) readSecret() ([]byte, error) {
	text, err := readPrivate(a.path(secretFile))
	if errors.Is(err, fs.ErrNotExist) {
		text = []byte(hex.EncodeToString(random()))
		err = a.write(secretFile, text)
	}
	if err != nil {
		return nil, fmt.Errorf("secret of the logins: %w", err)
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(secret) != secretSize {
		return nil, fmt.Errorf("secret of the logins: %s is damaged: remove it, and a new one is made, with which all "+
			"logins become others", a.path(secretFile))
	}
	return secret, nil
}

func random() []byte {
	out := make([]byte, secretSize)
	_, _ = rand.Read(out) // never fails
	return out
}

// readPrivate reads a file that only its owner may read.
func readPrivate(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %#o): remove it, because they may have read it, and a "+
			"new one is made", path, mode)
	}
	return os.ReadFile(path)
}

// write replaces a file in such a way that it is never there half.
func (a *access) write(name string, doc []byte) (err error) {
	f, err := os.CreateTemp(a.dir, "."+name+"-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(doc)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", a.path(name), err)
	}
	return os.Rename(f.Name(), a.path(name))
}

// password returns the password of a user.
func (a *access) password(user string) string {
	mac := hmac.New(sha256.New, a.secret)
	mac.Write([]byte(user))
	return hex.EncodeToString(mac.Sum(nil))
}

// knows reports whether this is a user with its password.
func (a *access) knows(user, password string) bool {
	return hmac.Equal([]byte(a.password(user)), []byte(password))
}

func (a *access) login(user, sender string) []byte {
	return natsbackend.Login(user, a.password(user), sender)
}

// part is what a user's name may be made of.
var part = regexp.MustCompile(`^[A-Za-z0-9_-]{1,200}$`)

// user returns the name of a user with these rights.
func user(role string, parts ...string) (string, error) {
	for _, p := range parts {
		if !part.MatchString(p) {
			return "", fmt.Errorf("login of a %s: %q: want 1 to 200 of A-Z a-z 0-9 _ and -", role, p)
		}
	}
	return strings.Join(append([]string{role}, parts...), "/"), nil
}

// noDeployment stands for a deployment without a name in a user's name. Deployments begin with a letter.
const noDeployment = "-"

// use returns what a user may do; limited is false if that is everything.
func use(user string) (u natsbackend.Use, limited bool, err error) {
	parts := strings.Split(user, "/")
	switch {
	case user == controllerRole:
		return u, false, nil
	case parts[0] == workerRole && len(parts) == 3:
		return natsbackend.Use{Receives: parts[1], Sends: parts[2]}, true, nil
	case parts[0] == workerRole && len(parts) == 4:
		return natsbackend.Use{Receives: parts[1], Sends: parts[2], Sender: parts[3]}, true, nil
	case parts[0] == clientRole && len(parts) == 3:
		deployment := strings.TrimPrefix(parts[2], noDeployment)
		return natsbackend.Use{Sends: parts[1], Reads: deployment, ReadsAny: true}, true, nil
	}
	return u, true, fmt.Errorf("user %q has no role that this controller knows", user)
}

// logins are what the controller hands out.
type logins struct {
	*access

	deployment string
	address    string // for programs on this machine, without login
	ca         string // a file; empty: no TLS, or a certificate that others have signed
}

var _ backend.Logins = (*logins)(nil)

// Instance implements backend.Logins.
func (l *logins) Instance(q backend.PoolQueues, id pool.InstanceID) ([]byte, error) {
	name, err := user(workerRole, q.Work, q.Status, string(id))
	if err != nil {
		return nil, err
	}
	return l.login(name, string(id)), nil
}

// Address implements backend.Logins.
func (l *logins) Address(file string) string { return natsbackend.WithLogin(l.address, file) }

// Pool implements backend.Logins.
func (l *logins) Pool(name pool.Name, q backend.PoolQueues) (backend.PoolFiles, error) {
	worker, err := user(workerRole, q.Work, q.Status)
	if err != nil {
		return backend.PoolFiles{}, err
	}
	deployment := l.deployment
	if deployment == "" {
		deployment = noDeployment
	}
	client, err := user(clientRole, q.Work, deployment)
	if err != nil {
		return backend.PoolFiles{}, err
	}
	files := backend.PoolFiles{
		Worker: l.path(string(name) + "-" + workerRole), Client: l.path(string(name) + "-" + clientRole), CA: l.ca,
	}
	if err := l.write(filepath.Base(files.Worker), l.login(worker, "")); err != nil {
		return backend.PoolFiles{}, fmt.Errorf("login of the workers of pool %s: %w", name, err)
	}
	if err := l.write(filepath.Base(files.Client), l.login(client, "")); err != nil {
		return backend.PoolFiles{}, fmt.Errorf("login of the clients of pool %s: %w", name, err)
	}
	return files, nil
}
