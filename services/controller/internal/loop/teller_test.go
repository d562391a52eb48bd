package loop_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/record"
)

// teller tells records to a person who has not seen any. It knows nothing but the records.
type teller struct {
	start time.Time // from which times are counted
	last  string    // what the last pass that was told of saw and thought
}

// tell writes what each pass saw, thought and did. Passes that see and think the same as the one before, and in which
// nothing happens, are only counted.
func (t *teller) tell(out io.Writer, list []*record.Record) {
	same := 0
	for _, r := range list {
		sees, thinks := sight(r), t.thoughts(r)
		news, done, fails := happened(r), deeds(r), failures(r)
		now := strings.Join(slices.Concat(sees, thinks, fails), " ")
		if len(news)+len(done) == 0 && now == t.last {
			same++
			continue
		}
		skipped(out, same)
		t.last, same = now, 0
		t.write(out, r, slices.Concat(sees, news, thinks, done, fails))
	}
	skipped(out, same)
}

// write tells one pass.
func (t *teller) write(out io.Writer, r *record.Record, lines []string) {
	when := t.at(r.At)
	for _, line := range append(lines, "looks again at "+t.at(r.Next)+" at the latest") {
		fmt.Fprintf(out, "    %-9s %s\n", when, line)
		when = ""
	}
}

// skipped tells of passes that are not told of.
func skipped(out io.Writer, passes int) {
	switch {
	case passes == 1:
		fmt.Fprint(out, "    ...       looks once more, and nothing is new\n")
	case passes > 1:
		fmt.Fprintf(out, "    ...       looks %d times more, and nothing is new\n", passes)
	}
}

// at is a time as the time since the start.
func (t *teller) at(at time.Time) string {
	return at.Sub(t.start).Round(10 * time.Millisecond).String()
}

// sight is how a pass saw the pool.
func sight(r *record.Record) []string {
	if r.Blind != "" {
		return nil
	}
	line := "sees " + backlog(&r.Seen)
	for i := range r.Seen.Instances {
		line += "; " + instance(&r.Seen.Instances[i])
	}
	if len(r.Seen.Instances) == 0 {
		line += "; no instances"
	}
	return []string{line}
}

// thoughts are what a pass decided, and what held it back.
func (t *teller) thoughts(r *record.Record) []string {
	if r.Blind != "" {
		return []string{"decides nothing: " + r.Blind}
	}
	lines := []string{"decides " + decision(&r.Decision)}
	if len(r.Decision.Clamps) > 0 {
		lines = append(lines, "limits: "+clamps(&r.Decision))
	}
	if w := r.Wait; w != nil {
		lines = append(lines,
			fmt.Sprintf("waits: launch %s, of %d, was asked for at %s; lists show it at %s at the latest",
				w.Token, w.Count, t.at(w.At), t.at(w.Until)))
	}
	if r.Breaker.Changed {
		lines = append(lines, r.Breaker.String())
	}
	return lines
}

// failures are what went wrong in a pass that decided.
func failures(r *record.Record) []string {
	if r.Error == "" || r.Blind != "" {
		return nil
	}
	return []string{"fails: " + strings.ReplaceAll(r.Error, "\n", "; ")}
}

// clamps are the limits that cut a decision.
func clamps(d *pool.Decision) string {
	var out []string
	for _, c := range d.Clamps {
		out = append(out, c.Text)
	}
	return strings.Join(out, "; ")
}

// decision is what a pass decided, and why.
func decision(d *pool.Decision) string {
	uncut := *d
	uncut.Clamps = nil // they have lines of their own
	return uncut.String()
}

// backlog is what a pass saw on the work queue.
func backlog(s *pool.Snapshot) string {
	if !s.Backlog.Known {
		return "an unknown backlog"
	}
	text := fmt.Sprintf("%d visible, %d in flight", s.Backlog.Visible, s.Backlog.InFlight)
	if s.Requests > 0 {
		text += fmt.Sprintf(", %d requests", s.Requests)
	}
	return text
}

// instance is what a pass knew of an instance.
func instance(in *pool.Instance) string {
	text := fmt.Sprintf("%s %s", in.ID, in.State)
	switch {
	case in.State == pool.Startup, in.State == pool.Stopping:
	case in.ReportedAt.IsZero():
		text += ", load unknown"
	default:
		text += fmt.Sprintf(", load %v", in.Load)
	}
	return text
}

// happened is what has happened to instances since the pass before.
func happened(r *record.Record) (lines []string) {
	if len(r.Adopted) > 0 {
		lines = append(lines, "takes over "+names(r.Adopted))
	}
	for _, e := range r.Gone {
		lines = append(lines, fmt.Sprintf("gone: %s%s", e.Instance, cause(&e)))
	}
	for _, e := range r.Outside {
		lines = append(lines, fmt.Sprintf("ending: %s%s", e.Instance, cause(&e)))
	}
	if len(r.Began) > 0 {
		lines = append(lines, "active now, after the first report: "+names(r.Began))
	}
	return lines
}

// deeds are what a pass did.
func deeds(r *record.Record) (lines []string) {
	replaced := 0 // hung instances are ended before anything is launched
	for replaced < len(r.Endings) &&
		(r.Endings[replaced].Act == record.StopAgain || r.Endings[replaced].Cause.Failed()) {
		lines = append(lines, ending(&r.Endings[replaced]))
		replaced++
	}
	if len(r.Reactivated) > 0 {
		lines = append(lines, "reactivates "+names(r.Reactivated))
	}
	for i := range r.Launches {
		lines = append(lines, launch(&r.Launches[i]))
	}
	for i := replaced; i < len(r.Endings); i++ {
		lines = append(lines, ending(&r.Endings[i]))
	}
	return lines
}

func names(list []pool.InstanceID) string {
	var out []string
	for _, id := range list {
		out = append(out, string(id))
	}
	return strings.Join(out, ", ")
}

// launch is what was asked of the cloud, and its answer.
func launch(l *record.Launch) string {
	text := fmt.Sprintf("launches %d as %s", l.Asked, l.Token)
	if l.Again {
		text = fmt.Sprintf("asks again for launch %s, of %d", l.Token, l.Asked)
	}
	if len(l.Started) > 0 {
		text += ": " + names(l.Started)
	}
	if l.Error != "" {
		text += ", which fails"
	}
	return text
}

// ending is what was done to end an instance, and why.
func ending(e *record.Ending) string {
	verb := map[record.Act]string{
		record.ShutDown: "shuts down", record.Stop: "stops", record.StopAgain: "stops once more",
	}[e.Act]
	text := fmt.Sprintf("%s %s%s", verb, e.Instance, cause(&e.Ending))
	switch {
	case e.Spared:
		text += ": not after all, it has just reported"
	case e.Error != "":
		text += ", which fails"
	}
	return text
}

// cause is why an instance ends, with what shows it.
func cause(e *pool.Ending) string {
	if detail := e.Detail(); detail != "" {
		return fmt.Sprintf(", cause %s: %s", e.Cause, detail)
	}
	return fmt.Sprintf(", cause %s", e.Cause)
}
