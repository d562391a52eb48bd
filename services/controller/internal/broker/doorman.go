package broker

import (
	"context"
	"log/slog"

	"github.com/nats-io/nats-server/v2/server"

	"cloudmaster/internal/backend/natsbackend"
)

var _ server.Authentication = (*doorman)(nil)

// doorman lets in whom access knows, and says what each may do.
type doorman struct {
	access   *access
	visitors *visitors
	log      *slog.Logger
}

// Check implements server.Authentication.
func (d *doorman) Check(c server.ClientAuthentication) bool {
	ok := d.check(c)
	d.visitors.loggedIn(c.GetID(), c.GetOpts().Username, ok)
	return ok
}

func (d *doorman) check(c server.ClientAuthentication) bool {
	asked := c.GetOpts()
	if !d.access.knows(asked.Username, asked.Password) {
		return false
	}
	rights, err := permissions(asked.Username)
	if err != nil {
		d.log.WarnContext(context.Background(), "a login of another version of the controller is refused", "error", err)
		return false
	}
	c.RegisterUser(&server.User{Username: asked.Username, Permissions: rights})
	return true
}

// permissions returns what a user may do; nil means everything.
func permissions(user string) (*server.Permissions, error) {
	u, limited, err := use(user)
	if err != nil || !limited {
		return nil, err
	}
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: u.Subjects()},
		Subscribe: &server.SubjectPermission{Allow: append(u.Hears(), natsbackend.Inbox(user)+".>")},
	}, nil
}
