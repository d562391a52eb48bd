package processcloud

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

const (
	launchesDir = ".launches"
	tokenMemory = time.Hour // how long a token is remembered after the last directory of its instances is gone
)

// launch is what is remembered of the launch with one token, in .launches/<token>.json. It is
// written before the first process is started, and again when the launch is over.
type launch struct {
	Token    string            `json:"token"`
	Image    string            `json:"image"`
	Count    int               `json:"count"`
	Tags     map[string]string `json:"tags"`
	Launched time.Time         `json:"launched"`
	Done     bool              `json:"done"`    // no more instances are to be started
	Started  int               `json:"started"` // how many of Count were started; valid when Done
}

// ids are the ids of the launch's instances. They derive from the token, so that whoever finishes
// an interrupted launch uses the same ids as whoever began it.
func (l *launch) ids(deployment string) []pool.InstanceID {
	out := make([]pool.InstanceID, max(0, l.Count))
	for i := range out {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d", deployment, l.Token, i))
		out[i] = pool.InstanceID(fmt.Sprintf("i-%x", sum[:6]))
	}
	return out
}

// Launch implements cloud.Cloud. A launch that started nothing leaves its token unused. A launch
// that was interrupted, by a crash or by an error other than ErrCapacity, is finished when it is repeated.
func (c *Cloud) Launch(ctx context.Context, spec cloud.Spec) ([]cloud.Instance, error) {
	out, err := c.launch(ctx, spec)
	if err != nil {
		err = fmt.Errorf("launch %d of image %q: %w", spec.Count, spec.Image, err)
	}
	return out, err
}

func (c *Cloud) launch(ctx context.Context, spec cloud.Spec) ([]cloud.Instance, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := check(&spec); err != nil {
		return nil, err
	}
	want := launch{
		Token: spec.Token, Image: spec.Image, Count: spec.Count,
		Tags: maps.Clone(spec.Tags), Launched: time.Now().UTC(),
	}
	docs, err := prepare(&spec, want.ids(c.deployment))
	if err != nil {
		return nil, err
	}
	free, err := c.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	l, err := c.begin(want)
	if err != nil {
		return nil, err
	}
	if l.Done {
		return c.again(l)
	}
	return c.finish(ctx, l, docs)
}

// papers are what an instance finds when it starts.
type papers struct {
	userData []byte
	login    []byte // nil: none
}

// prepare gets the papers of all instances before any of them is started.
func prepare(spec *cloud.Spec, ids []pool.InstanceID) ([]papers, error) {
	out := make([]papers, len(ids))
	for i, id := range ids {
		if spec.UserData != nil {
			doc, err := spec.UserData(id)
			if err == nil {
				err = checkUserData(doc)
			}
			if err != nil {
				return nil, fmt.Errorf("user data of instance %s: %w", id, err)
			}
			out[i].userData = doc
		}
		if spec.Login != nil {
			doc, err := spec.Login(id)
			if err != nil {
				return nil, fmt.Errorf("login of instance %s: %w", id, err)
			}
			out[i].login = doc
		}
	}
	return out, nil
}

// lock waits until this is the only running launch of the deployment, over all processes.
func (c *Cloud) lock(ctx context.Context) (free func(), err error) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	freeDir, err := lockDir(ctx, c.root)
	if err == nil && c.isClosed() {
		freeDir()
		err = errClosed
	}
	if err != nil {
		<-c.turn
		return nil, err
	}
	return func() { freeDir(); <-c.turn }, nil
}

// begin returns the launch to which the token belongs: an earlier one, or want.
func (c *Cloud) begin(want launch) (launch, error) {
	var l launch
	err := readJSON(c.launchPath(want.Token), &l)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errDamaged): // what counts are the instances' own records
		return want, c.saveLaunch(&want)
	case err != nil:
		return launch{}, err
	case l.Image != want.Image || l.Count != want.Count || !maps.Equal(l.Tags, want.Tags):
		return launch{}, fmt.Errorf("%w: token %q stands for %d of image %q with tags %v",
			cloud.ErrConflict, l.Token, l.Count, l.Image, l.Tags)
	}
	return l, nil
}

func (c *Cloud) launchPath(token string) string {
	return filepath.Join(c.root, launchesDir, token+".json")
}

func (c *Cloud) saveLaunch(l *launch) error { return writeJSON(c.launchPath(l.Token), l) }

// again returns the instances of a launch that is over.
func (c *Cloud) again(l launch) ([]cloud.Instance, error) {
	out := make([]cloud.Instance, 0, l.Started)
	for _, id := range l.ids(c.deployment)[:max(0, min(l.Started, l.Count))] {
		rec, err := c.read(id)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, errDamaged): // the launch itself knows enough
			rec = record{ID: id, Image: l.Image, Tags: l.Tags, Launched: l.Launched}
		case err != nil:
			return nil, err
		}
		alive, err := c.procs.alive(rec.identity)
		if err != nil {
			return nil, err
		}
		out = append(out, rec.instance(c.opts.Host, c.readTags(&rec), alive))
	}
	if l.Started < l.Count {
		return out, fmt.Errorf("%w: %d were started", cloud.ErrCapacity, l.Started)
	}
	return out, nil
}

// finish starts the instances that the launch has not started yet, and records that it is over.
func (c *Cloud) finish(ctx context.Context, l launch, docs []papers) ([]cloud.Instance, error) {
	c.opts.step("begun")
	room, err := c.room(ctx)
	if err != nil {
		return nil, err
	}
	var out []cloud.Instance
	for i, id := range l.ids(c.deployment) {
		var inst cloud.Instance
		if inst, err = c.ensure(ctx, &l, id, docs[i], &room); err != nil {
			break
		}
		out = append(out, inst)
	}
	switch {
	case len(out) == 0:
		return nil, errors.Join(err, os.Remove(c.launchPath(l.Token)))
	case err == nil, errors.Is(err, cloud.ErrCapacity):
		l.Done, l.Started = true, len(out)
		return out, errors.Join(err, c.saveLaunch(&l))
	}
	return out, fmt.Errorf("after %d were started: %w", len(out), err)
}

// unlimited is a capacity that no machine can exceed.
const unlimited = 1 << 30

// room returns how many more instances the capacity allows.
func (c *Cloud) room(ctx context.Context) (int, error) {
	if c.opts.Capacity == 0 {
		return unlimited, nil
	}
	found, err := c.survey(ctx)
	if err != nil {
		return 0, err
	}
	room := c.opts.Capacity
	for _, s := range found {
		if s.alive {
			room--
		}
	}
	return room, nil
}

// ensure returns the launch's instance with this id. If no earlier attempt started it, ensure
// starts it and takes it from room.
func (c *Cloud) ensure(
	ctx context.Context, l *launch, id pool.InstanceID, doc papers, room *int,
) (cloud.Instance, error) {
	s, ok, err := c.look(ctx, id)
	if err != nil {
		return cloud.Instance{}, err
	}
	if ok && s.rec.PID != 0 {
		return s.rec.instance(c.opts.Host, c.readTags(&s.rec), s.alive), nil
	}
	if *room < 1 {
		return cloud.Instance{}, fmt.Errorf("%w: all %d places for instances of deployment %q are taken",
			cloud.ErrCapacity, c.opts.Capacity, c.deployment)
	}
	if ctx.Err() != nil {
		return cloud.Instance{}, context.Cause(ctx)
	}
	bin, err := c.binary(l.Image)
	if err != nil {
		return cloud.Instance{}, err
	}
	rec := record{
		ID: id, Deployment: c.deployment, Image: l.Image, Tags: l.Tags, Token: l.Token,
		Launched: time.Now().UTC(), identity: identity{BootID: c.procs.bootID},
	}
	if !c.exists(id) {
		if err := c.intend(&rec); err != nil {
			return cloud.Instance{}, fmt.Errorf("prepare instance %s: %w", id, err)
		}
	}
	if err := c.start(ctx, &rec, bin, doc); err != nil {
		return cloud.Instance{}, fmt.Errorf("start instance %s: %w", id, err)
	}
	*room--
	c.watch(ctx, &rec)
	return rec.instance(c.opts.Host, c.readTags(&rec), true), nil
}

// exists reports whether an instance has a directory.
func (c *Cloud) exists(id pool.InstanceID) bool {
	_, err := os.Stat(c.dir(id))
	return err == nil
}

// binary returns the path of an image's binary.
func (c *Cloud) binary(image string) (string, error) {
	path := filepath.Join(c.opts.BinDir, image)
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", noBinary(image, path, errors.Unwrap(err))
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return "", noBinary(image, path, fs.ErrPermission)
	}
	return path, nil
}

// intend creates the instance's directory. It appears by a rename, so that its record is in it from
// the first moment.
func (c *Cloud) intend(rec *record) (err error) {
	temp := filepath.Join(c.root, newPrefix+string(rec.ID))
	if err := os.RemoveAll(temp); err != nil { // left over from a crash
		return err
	}
	if err := os.Mkdir(temp, dirPerm); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(temp)
		}
	}()
	if err := writeJSON(filepath.Join(temp, recordFile), rec); err != nil {
		return err
	}
	if err := os.Rename(temp, c.dir(rec.ID)); err != nil {
		return err
	}
	return syncDir(c.root)
}
