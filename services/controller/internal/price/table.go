// Package price knows what instances cost: a table of prices ships with the controller, and operators may replace it
// by one of their own. What is not in the table has no price, which is not the same as costing nothing.
package price

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the table that ships
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"cloudmaster/internal/daemon"
)

// Market is how an instance is bought.
type Market string

// The markets.
const (
	OnDemand Market = "on-demand"
	Spot     Market = "spot" // the cloud may take the instance back at any time; its price moves
)

// offer is what has one price.
type offer struct {
	place  string // a region, or a cloud by its name in the configuration
	kind   string // the cloud's word for the size of the machine
	market Market
}

// row is one line of a table.
type row struct {
	usd  float64 // for an hour
	line int
}

// Table has prices by place, type and market. It does not change.
type Table struct {
	Date   string // as of when the prices are, as 2026-11-25
	Source string // where they are from
	Digest string // the same for equal files, and only for them
	rows   map[offer]row
}

const (
	header = "place,type,market,usd_per_hour"
	// mostErrors is how many complaints about one table are worth reading.
	mostErrors = 10
)

//go:embed prices.csv
var shipped []byte

// Shipped returns the table that comes with the controller. Its head says where the prices are from.
var Shipped = sync.OnceValues(func() (*Table, error) { return Parse("prices.csv", shipped) })

// Load reads the table in a file. Errors name the file, and the lines that are wrong.
func Load(file string) (*Table, error) {
	raw, err := daemon.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read prices: %w; correct the path, or leave it out for the table that ships", err)
	}
	return Parse(file, raw)
}

// Parse reads a table; file is only its name. Lines that begin with # say where the table is from: "# date: 2026-11-25"
// and "# source: WORDS" must be there. The first other line is the header, and each line after it is one price. The
// error has a line for each of the first ten things that are wrong.
func Parse(file string, raw []byte) (*Table, error) {
	p := &parser{file: file, table: &Table{
		Digest: fmt.Sprintf("%x", sha256.Sum256(raw)), rows: make(map[offer]row),
	}}
	number := 0
	for line := range bytes.Lines(raw) {
		number++
		p.line(number, strings.TrimSpace(string(line)))
	}
	p.complete(number)
	if len(p.errs) > mostErrors {
		more := len(p.errs) - mostErrors
		p.errs = append(p.errs[:mostErrors], fmt.Errorf("%s: and %d more errors", file, more))
	}
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	return p.table, nil
}

// parser reads one table, line by line.
type parser struct {
	file   string
	table  *Table
	headed bool // the header has been read
	errs   []error
}

func (p *parser) complain(line int, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s:%d: %s", p.file, line, fmt.Sprintf(format, args...)))
}

func (p *parser) line(number int, text string) {
	switch comment, isComment := strings.CutPrefix(text, "#"); {
	case text == "":
	case isComment:
		p.comment(number, strings.TrimSpace(comment))
	case !p.headed:
		p.headed = true
		if text != header {
			p.complain(number, "the first line is %q, want the header %s", text, header)
		}
	default:
		p.row(number, strings.Split(text, ","))
	}
}

func (p *parser) comment(number int, text string) {
	if date, ok := strings.CutPrefix(text, "date:"); ok {
		p.table.Date = strings.TrimSpace(date)
		if _, err := time.Parse(time.DateOnly, p.table.Date); err != nil {
			p.complain(number, "date: %q is not a date, as 2026-11-25", p.table.Date)
		}
	}
	if source, ok := strings.CutPrefix(text, "source:"); ok {
		p.table.Source = strings.TrimSpace(source)
	}
}

func (p *parser) row(number int, cells []string) {
	if len(cells) != strings.Count(header, ",")+1 {
		p.complain(number, "has %d cells, want %s", len(cells), header)
		return
	}
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	of := offer{place: cells[0], kind: cells[1], market: Market(cells[2])}
	usd, err := strconv.ParseFloat(cells[3], 64)
	before, twice := p.table.rows[of]
	switch {
	case of.place == "" || of.kind == "":
		p.complain(number, "names no place or no type, so that it is the price of nothing")
	case of.market != OnDemand && of.market != Spot:
		p.complain(number, "market: %q is not %s or %s", cells[2], OnDemand, Spot)
	case err != nil || usd < 0 || math.IsInf(usd, 0) || math.IsNaN(usd):
		p.complain(number, "usd_per_hour: %q is not a price in US dollars, as 0.0104", cells[3])
	case twice:
		p.complain(number, "%s %s in %s has a price in line %d already", of.market, of.kind, of.place, before.line)
	default:
		p.table.rows[of] = row{usd, number}
	}
}

// complete complains about what the whole table lacks.
func (p *parser) complete(lines int) {
	for _, head := range []struct{ key, value, example string }{
		{"date", p.table.Date, "2026-11-25"},
		{"source", p.table.Source, "our contract with the provider"},
	} {
		if head.value == "" {
			p.complain(1, "does not say its %s: write a line \"# %s: %s\"", head.key, head.key, head.example)
		}
	}
	if !p.headed {
		p.complain(max(lines, 1), "has no header: write a line %s, and one such line for each price", header)
	}
}
