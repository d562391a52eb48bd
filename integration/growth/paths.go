package main

// mostGrowth is how many times as long ten times as many may take. Sorting adds about a third, and what does not fit
// into the processor's cache a little more; a loop within a loop adds 90.
const mostGrowth = 15.0

// growing has the benchmarks called BenchmarkGrowth, whose parts are named path/n=300 and path/n=3000.
var growing = []struct {
	pkg   string
	paths []string
}{
	{"./internal/policy", []string{
		"decide-job", "decide-resource", "decide-surplus", "decide-regrow", "decide-fixed", "decide-manual",
		"decide-schedule", "decide-retiring",
	}},
	{"./internal/pool", []string{"limits"}},
	{"./internal/activeset", []string{"active-set-encode", "active-set-decode"}},
	{"./services/controller/internal/loop", []string{"pass"}},
	{"./services/controller/internal/roster", []string{"roster-hear", "roster-observe", "roster-instances"}},
	{"./services/controller/internal/intake", []string{"intake"}},
	{"./services/controller/internal/inventory", []string{"inventory"}},
	{"./services/allocator/internal/allocate", []string{"allocate", "allocate-update"}},
	{"./services/allocator/internal/web", []string{"allocation-request"}},
}

// peer is a benchmark that measures a path beside something as fast as such a thing can be. Its metric "ratio" is the
// path's speed divided by the peer's.
type peer struct {
	path, beside, pkg string
	bench             string // the benchmark's name, with its part if it has several
	benchtime         string
	least             float64
	needs             string // a program that must be installed; empty: none
}

var peers = []peer{
	{
		path: "allocations", beside: "a bare net/http handler", pkg: "./services/allocator/internal/web",
		bench: "BenchmarkAllocations", benchtime: "10000x", least: 0.7,
	},
	{
		path: "Fibonacci numbers, one by one", beside: "a line echo", pkg: "./services/fib-server/internal/server",
		bench: "BenchmarkFirstNumbers/mode=request-response", benchtime: "200ms", least: 0.6,
	},
	{
		path: "Fibonacci numbers, all at once", beside: "a line echo", pkg: "./services/fib-server/internal/server",
		bench: "BenchmarkFirstNumbers/mode=pipelined", benchtime: "200ms", least: 0.35,
	},
	{
		path: "the 10,000,000th prime", beside: "primesieve on one thread",
		pkg: "./services/primes-worker/internal/primes", bench: "BenchmarkNth/10000000", benchtime: "20x",
		least: 1 / 1.2, needs: "primesieve",
	},
	{
		path: "the 100,000,000th prime", beside: "primesieve on one thread",
		pkg: "./services/primes-worker/internal/primes", bench: "BenchmarkNth/100000000", benchtime: "3x",
		least: 1 / 1.2, needs: "primesieve",
	},
	{
		path: "statuses into the roster", beside: "raw JetStream", pkg: "./services/controller/internal/app",
		bench: "BenchmarkDelivery", benchtime: "5x", least: 0.5,
	},
}
