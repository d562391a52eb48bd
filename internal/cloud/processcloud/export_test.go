package processcloud

import "github.com/prometheus/procfs"

// WithStep adds a function that is called between two steps of a launch or termination.
func WithStep(o Options, step func(name string)) Options {
	o.step = step
	return o
}

// SetProc makes c look at another process table. The function that it returns undoes that.
func SetProc(c *Cloud, dir string) (restore func(), err error) {
	table, err := procfs.NewFS(dir)
	if err != nil {
		return nil, err
	}
	before := c.procs.fs.Swap(&table)
	return func() { c.procs.fs.Store(before) }, nil
}
