package price_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/price"
)

const head = "# date: 2026-11-25\n# source: a test\nplace,type,market,usd_per_hour\n"

func parse(t *testing.T, rows string) *price.Table {
	t.Helper()
	table, err := price.Parse("t.csv", []byte(head+rows))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestShipped looks up some prices of the table that ships. What is expected is from another source than the table:
// the list of karpenter-provider-aws v1.15.1, made from AWS's price API on 2026-07-20.
func TestShipped(t *testing.T) {
	t.Parallel()
	table, err := price.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	if table.Date != "2025-05-28" || !strings.Contains(table.Source, "ec2-instances-info") {
		t.Errorf("got date %q and source %q, want those of its head", table.Date, table.Source)
	}
	book := &price.Book{Table: table}
	for kind, want := range map[string]float64{
		"t3.micro": 0.0104, "t4g.micro": 0.0084, "c7g.large": 0.0725, "m6i.large": 0.096, "r7g.large": 0.1071,
	} {
		got := book.Of(&pool.Instance{Type: kind, Zone: "us-east-1d"})
		if got != (price.Rate{Known: true, USD: want}) {
			t.Errorf("%s: got %+v, want $%g", kind, got, want)
		}
	}
	for _, region := range []string{"us-east-1", "us-east-2", "us-west-2", "eu-west-1", "eu-central-1"} {
		for _, family := range []string{"t3", "t4g", "c7g", "c7a", "c6i", "m7g", "m6i", "r7g"} {
			got := book.Of(&pool.Instance{Type: family + ".large", Zone: region + "a"})
			if !got.Known || got.USD < 0.02 {
				t.Errorf("%s.large in %s: got %+v, want a price", family, region, got)
			}
		}
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ raw, want string }{
		"cells":     {head + "here,t\n", "t.csv:4: has 2 cells"},
		"header":    {"# date: 2026-11-25\n# source: x\nhere,t,spot,1\n", "t.csv:3: the first line is"},
		"no header": {"# date: 2026-11-25\n# source: x\n", "t.csv:2: has no header"},
		"empty":     {"", "t.csv:1: does not say its date"},
		"no source": {"# date: 2026-11-25\nplace,type,market,usd_per_hour\n", "t.csv:1: does not say its source"},
		"date":      {strings.Replace(head, "11-25", "25-11", 1), `t.csv:1: date: "2026-25-11" is not a date`},
		"market":    {head + "here,t,ondemand,1\n", `t.csv:4: market: "ondemand" is not on-demand or spot`},
		"nothing":   {head + "here,,spot,1\n", "t.csv:4: names no place or no type"},
		"price":     {head + "here,t,spot,cheap\n", `t.csv:4: usd_per_hour: "cheap" is not a price`},
		"negative":  {head + "here,t,spot,-1\n", `"-1" is not a price`},
		"infinite":  {head + "here,t,spot,inf\n", `"inf" is not a price`},
		"not one":   {head + "here,t,spot,nan\n", `"nan" is not a price`},
		"comma":     {head + "here,t,spot,0,01\n", "t.csv:4: has 5 cells"},
		"twice":     {head + "here,t,spot,1\n\nhere, t,spot,2\n", "t.csv:6: spot t in here has a price in line 4"},
		"several":   {head + "here,t,x,1\nhere,t,spot,x\n", "t.csv:5: usd_per_hour"},
		"many":      {head + strings.Repeat("x\n", 12), "t.csv: and 2 more errors"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table, err := price.Parse("t.csv", []byte(c.raw))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v and error %v, want %q in it", table, err, c.want)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "own.csv")
	if _, err := price.Load(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("no file: got %v, want its name", err)
	}
	if err := os.WriteFile(file, []byte(head+"here,t,on-demand,2\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	table, err := price.Load(file)
	if err != nil || table.Source != "a test" {
		t.Errorf("got %+v, %v", table, err)
	}
	if _, err := price.Load("/dev/zero"); err == nil || !strings.Contains(err.Error(), "more than 16 MiB") {
		t.Errorf("endless: got %v, want an error that says so", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(head + "here,t,spot,1\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		table, err := price.Parse("t.csv", raw)
		if (table == nil) == (err == nil) {
			t.Errorf("got %v and %v, want one of them", table, err)
		}
	})
}
