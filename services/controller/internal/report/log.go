package report

import (
	"context"
	"log/slog"
	"math"
	"regexp"
	"slices"
	"sync"
	"time"

	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/record"
)

// Log writes one entry for each event to a log, for machines to read.
type Log struct{ log *slog.Logger }

// NewLog returns a sink that writes to log.
func NewLog(log *slog.Logger) Log { return Log{log: log} }

// Pass logs the events of a pass.
func (l Log) Pass(ctx context.Context, r *record.Record) { l.write(ctx, Events(r)) }

// Intake logs the messages of instances for the operator.
func (l Log) Intake(ctx context.Context, in *record.Intake) { l.write(ctx, Sayings(in)) }

func (l Log) write(ctx context.Context, events []Event) {
	for i := range events {
		e := &events[i]
		attrs := []slog.Attr{slog.String("pool", string(e.Pool)), slog.String("event", e.What.String())}
		if e.Instance != "" {
			attrs = append(attrs, slog.String("instance", string(e.Instance)))
		}
		if e.Ending.Cause != "" {
			attrs = append(attrs, slog.String("cause", string(e.Ending.Cause)),
				slog.String("detail", e.Ending.Detail()))
		}
		if e.Text != "" {
			attrs = append(attrs, slog.String("text", e.Text))
		}
		if e.What == Summarized {
			b := e.Summary.Backlog
			attrs = append(attrs, slog.Int("instances", len(e.Summary.Instances)),
				slog.Bool("backlog_known", b.Known), slog.Int("visible", b.Visible), slog.Int("in_flight", b.InFlight))
			if text := e.Summary.Ages.String(); text != "" {
				attrs = append(attrs, slog.String("ages", text))
			}
			if cost := &e.Summary.Cost; !cost.Silent() {
				attrs = append(attrs, slog.Float64("cost_usd_per_hour", cost.USD),
					slog.Int("cost_at_most", cost.AtMost), slog.Int("cost_unknown", cost.Unknown))
			}
			if e.Summary.Warm > 0 {
				attrs = append(attrs, slog.Int("warm", e.Summary.Warm))
			}
			if e.Summary.Rollout != "" {
				attrs = append(attrs, slog.String("rollout", e.Summary.Rollout))
			}
		}
		l.log.LogAttrs(ctx, slog.LevelInfo, "report", attrs...)
	}
}

// Diary writes the controller's own log: decisions that changed something, and what went wrong. What stays
// the same from pass to pass is logged once.
type Diary struct {
	log *slog.Logger

	mu    sync.Mutex
	pools map[pool.Name]*written // guarded by mu
}

// written is what the diary has written last about a pool.
type written struct {
	words    string // the newest decision
	err      string // the newest error
	failures int    // how many passes in a row had failed at the newest record
	waits    string // token of the launch that is waited for
	limits   pool.Limits
	unknown  string // why it was not known what a launch would make
	rollout  string // what was said of the newest rollout
	seen     bool   // limits are those of the newest record

	strangers []pool.InstanceID // those of the newest record
	missing   []string          // what had no price in the newest record

	clocks time.Time // when people were last told that clocks differ; guarded by Diary.mu
}

// NewDiary returns a sink that writes to log.
func NewDiary(log *slog.Logger) *Diary { return &Diary{log: log, pools: make(map[pool.Name]*written)} }

// clocksGap is the least time between two warnings about the clocks of a pool.
const clocksGap = time.Hour

func (d *Diary) mayTellOfClocks(name pool.Name, now time.Time) bool {
	w := d.of(name)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !w.clocks.IsZero() && now.Sub(w.clocks) < clocksGap {
		return false
	}
	w.clocks = now
	return true
}

// Forget drops what is remembered of a pool that does not run any more.
func (d *Diary) Forget(name pool.Name) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.pools, name)
}

func (d *Diary) of(name pool.Name) *written {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.pools[name]
	if w == nil {
		w = &written{}
		d.pools[name] = w
	}
	return w
}

// Pass logs what is new in a record. The records of one pool come one after the other.
func (d *Diary) Pass(ctx context.Context, r *record.Record) {
	log, w := d.log.With("pool", string(r.Pool)), d.of(r.Pool)
	if len(r.Adopted) > 0 {
		log.InfoContext(ctx, "adopted running instances", "instances", r.Adopted)
	}
	for i := range r.Gone {
		log.InfoContext(ctx, "instance is gone", "instance", string(r.Gone[i].Instance),
			"cause", string(r.Gone[i].Cause), "detail", r.Gone[i].Detail())
	}
	for i := range r.Outside {
		log.InfoContext(ctx, "instance is ending, and not by this controller",
			"instance", string(r.Outside[i].Instance), "detail", r.Outside[i].Detail())
	}
	d.strangers(ctx, log, r, w)
	if r.Breaker.Changed {
		log.WarnContext(ctx, "breaker changed", "open", r.Breaker.Open, "silent", r.Breaker.Silent,
			"active", r.Breaker.Active)
	}
	if r.Blind == "" {
		d.limits(ctx, log, r, w)
		d.prices(ctx, log, r, w)
		d.rollout(ctx, log, r, w)
		d.decision(ctx, log, r, w)
	}
	d.failure(ctx, log, r, w)
}

// strangers warns of instances whose addresses are not theirs, when there are others than in the last pass.
func (d *Diary) strangers(ctx context.Context, log *slog.Logger, r *record.Record, w *written) {
	if slices.Equal(w.strangers, r.Strangers) {
		return
	}
	if w.strangers = r.Strangers; len(r.Strangers) > 0 {
		log.WarnContext(ctx, "instances report addresses at hosts that the cloud does not know as theirs; clients are "+
			"not sent there: correct what the instances report, or set any_address", "instances", r.Strangers)
	}
}

// prices tells which prices are missing, when there is one that was not missing in the last pass.
func (d *Diary) prices(ctx context.Context, log *slog.Logger, r *record.Record, w *written) {
	known := func(what string) bool { return slices.Contains(w.missing, what) }
	fresh := slices.DeleteFunc(slices.Clone(r.Cost.Missing), known)
	if w.missing = r.Cost.Missing; len(fresh) > 0 {
		log.InfoContext(ctx, "instances have no price, so that the cost of the pool is not known as a whole: "+
			"add them to a table of your own, and name it in the key prices", "missing", fresh)
	}
}

// limits logs that other limits are in force, because the time has come or the configuration has changed.
func (d *Diary) limits(ctx context.Context, log *slog.Logger, r *record.Record, w *written) {
	l := r.Seen.Limits
	if l.Maximum == math.MaxInt32 { // of a pool that was removed: nobody has set them
		return
	}
	if w.seen && (l.Minimum != w.limits.Minimum || l.Maximum != w.limits.Maximum) {
		log.InfoContext(ctx, "other limits are in force", "minimum", l.Minimum, "maximum", l.Maximum)
	}
	w.seen, w.limits = true, l
}

// rollout logs how far the replacement of outdated instances is, when that has changed.
func (d *Diary) rollout(ctx context.Context, log *slog.Logger, r *record.Record, w *written) {
	if why := lasting(r.Rollout.Unknown); why != "" && why != w.unknown {
		w.unknown = why
		log.WarnContext(ctx, "it is not known what a launch would make now, so that moving images are not rolled out",
			"error", r.Rollout.Unknown)
	}
	if r.Rollout.Text == w.rollout {
		return
	}
	w.rollout = r.Rollout.Text
	level := slog.LevelInfo
	switch r.Rollout.State {
	case "":
		log.InfoContext(ctx, "rollout is over: no instance is outdated")
		return
	case policy.RolloutHalted, policy.RolloutStuck:
		level = slog.LevelWarn
	case policy.Rolls, policy.RolloutPaused, policy.RolloutOff:
	}
	log.Log(ctx, level, "rollout", "state", string(r.Rollout.State), "text", r.Rollout.Text,
		"outdated", r.Rollout.Outdated)
}

// decision logs a decision that differs from the last one, and each ending with its cause.
func (d *Diary) decision(ctx context.Context, log *slog.Logger, r *record.Record, w *written) {
	if r.Words != w.words { // the same decision again is nothing new, or failed in the last pass
		w.words = r.Words
		level := slog.LevelDebug
		if !r.Decision.Empty() || len(r.Seen.Orders) > 0 { // who has ordered something wants to know what became of it
			level = slog.LevelInfo
		}
		log.LogAttrs(ctx, level, "decision", slog.String("decision", r.Words), slog.Any("asked", r.Decision.Asked),
			slog.Any("clamps", r.Decision.Clamps), slog.Any("backlog", r.Seen.Backlog),
			slog.Int("requests", r.Seen.Requests))
	}
	for i := range r.Endings {
		if e := &r.Endings[i]; e.Error == "" && !e.Spared {
			log.InfoContext(ctx, "instance ends", "instance", string(e.Instance), "act", string(e.Act),
				"cause", string(e.Cause), "detail", e.Detail())
		}
	}
	switch {
	case r.Wait == nil:
		w.waits = ""
	case r.Wait.Token != w.waits:
		w.waits = r.Wait.Token
		log.InfoContext(ctx,
			"launches wait: a controller before this one has launched lately, and lists may not show it yet",
			"count", r.Wait.Count, "at", r.Wait.At, "until", r.Wait.Until)
	}
}

// callIDs finds the ids that AWS gives to one request, and to the host that answered it.
var callIDs = regexp.MustCompile(`(Request|Host)ID: [^,]*`)

// lasting returns the text of an error without the parts that differ each time although the error is the
// same.
func lasting(text string) string { return callIDs.ReplaceAllString(text, "") }

// failure logs an error when it is new, and once in 100 passes while it lasts.
func (d *Diary) failure(ctx context.Context, log *slog.Logger, r *record.Record, w *written) {
	switch {
	case r.Err == nil:
		if w.failures > 0 {
			log.InfoContext(ctx, "passes succeed again", "failures", w.failures)
		}
		w.err = ""
	case ctx.Err() != nil: // the controller ends
		return
	default:
		if text := lasting(r.Error); text != w.err || r.Failures%100 == 0 {
			w.err = text
			log.ErrorContext(ctx, "pass failed; the next one tries again", "error", r.Err, "failures", r.Failures)
		}
	}
	w.failures = r.Failures
}

// Intake logs what is wrong with a status queue or with its messages.
func (d *Diary) Intake(ctx context.Context, in *record.Intake) {
	log := d.log.With("pool", string(in.Pool))
	if in.Orders {
		d.orders(ctx, log, in)
		return
	}
	if in.Deaf {
		log.ErrorContext(ctx, "status queue cannot be read; trying again, nothing shrinks", "error", in.Err)
	}
	if in.Hears {
		log.InfoContext(ctx, "status queue can be read again", "failures", in.Failures)
	}
	for i := range in.Garbage {
		g := &in.Garbage[i]
		if g.Outcome == "forged" {
			log.WarnContext(ctx, "status message is not from the instance that it names; dropped", "error", g.Err,
				"body", g.Body, "others_since", g.Unsaid)
			continue
		}
		log.WarnContext(ctx, "status message cannot be parsed; dropped", "error", g.Err, "body", g.Body,
			"others_since", g.Unsaid)
	}
	if len(in.Future) > 0 && d.mayTellOfClocks(in.Pool, in.At) {
		log.WarnContext(ctx,
			"statuses are from the future: an instance's clock is ahead, or this controller's is behind",
			"instances", in.Future)
	}
	if in.Undeleted != nil {
		log.WarnContext(ctx, "status messages could not be deleted; they will come again", "count", in.Messages,
			"error", in.Undeleted)
	}
}

// orders logs what is wrong with a queue of orders or with its messages.
func (d *Diary) orders(ctx context.Context, log *slog.Logger, in *record.Intake) {
	if in.Deaf {
		log.ErrorContext(ctx, "queue of orders cannot be read; trying again", "error", in.Err)
	}
	if in.Hears {
		log.InfoContext(ctx, "queue of orders can be read again", "failures", in.Failures)
	}
	for i := range in.Garbage {
		log.WarnContext(ctx, "order cannot be read; dropped", "error", in.Garbage[i].Err, "body", in.Garbage[i].Body)
	}
	if in.Undeleted != nil {
		log.WarnContext(ctx, "orders could not be deleted; they will come again and not count twice",
			"error", in.Undeleted)
	}
}
