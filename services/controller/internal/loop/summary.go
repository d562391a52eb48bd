package loop

import (
	"context"
	"slices"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/report"
)

// summaryState remembers what the last summary said.
type summaryState struct {
	at      time.Time
	backlog pool.Backlog
	states  []pool.Instance // only ID and State are compared
	due     time.Time       // when a change that came too soon may be told; zero: none
}

// leastSummaryGap keeps a lively pool from filling the screen.
const leastSummaryGap = time.Second

// tell reports the summary when instances or backlog have changed, and at the
// latest every report interval.
func (l *Loop) tell(ctx context.Context, now time.Time) {
	instances := l.roster.Instances(now)
	same := l.backlog == l.summary.backlog && slices.EqualFunc(instances, l.summary.states, func(a, b pool.Instance) bool {
		return a.ID == b.ID && a.State == b.State
	})
	age := now.Sub(l.summary.at)
	l.summary.due = time.Time{}
	switch {
	case same && age < l.cfg.ReportInterval:
		l.summary.due = l.summary.at.Add(l.cfg.ReportInterval)
		return
	case !same && age < leastSummaryGap:
		l.summary.due = l.summary.at.Add(leastSummaryGap)
		return
	}
	l.summary = summaryState{at: now, backlog: l.backlog, states: instances, due: now.Add(l.cfg.ReportInterval)}
	l.report(ctx, report.Event{Kind: report.Summarized, Summary: report.Summary{Backlog: l.backlog, Instances: instances}})
}
