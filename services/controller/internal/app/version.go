package app

import (
	"crypto/sha256"
	"encoding/hex"

	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/config"
)

// version returns what instances of a pool are launched as: its image as it is configured; and what they are told,
// without what differs from one instance to the next, together with what the cloud makes of them. What only changes how
// many there are, or where, is no part of it.
func (o *opened) version(p *config.Pool, userData func(pool.InstanceID) ([]byte, error)) (string, error) {
	doc, err := userData("")
	if err != nil {
		return "", err
	}
	where, made := o.cfg.Clouds[p.Cloud], ""
	if where.Kind.Made != nil {
		made = where.Kind.Made(where.Settings, o.cfg.Deployment, p.Name, p.OnCloud)
	}
	return pool.Version(short(p.Image), short(string(doc)+"\x00"+made)), nil
}

// short is the same for equal texts, and short enough for a tag.
func short(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}
