package walkthrough

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"cloudmaster/integration/metal"
	"cloudmaster/integration/program"
	"cloudmaster/integration/wire"
)

const (
	region     = "eu-west-1"
	deployment = "walk"
)

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(binDir) // binDir is "" if nothing was built
	os.Exit(code)
}

// binDir is the directory of the programs; build writes it.
var binDir string

// build builds the programs from the work tree, once.
var build = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "cloudmaster-walk-")
	if err != nil {
		return err
	}
	binDir = dir
	cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/",
		"cloudmaster/services/controller", "cloudmaster/services/primes-worker", "cloudmaster/services/fib-server",
		"cloudmaster/services/allocator", "cloudmaster/clients/feed-primes", "cloudmaster/clients/fib-client")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
})

// world is everything that one walk-through uses.
type world struct {
	t       testing.TB
	account string // a number; LocalStack keeps each account's resources apart
	region  string
	dir     string
	config  string // path of the configuration file
	stderr  *os.File
	ops     string // the controller's address for operators
	front   string // address of the allocator for clients
	// frontOps is the one for the allocator's health and its view of pools.
	frontOps string

	wire       *wire.Wire
	metal      *metal.Metal
	ec2        *ec2.Client
	images     map[string]string // image ids by program
	controller *program.Process
	others     []*program.Process

	hurried bool // the controller is the one that hurry builds
	// key returns the access key of a program; nil: the account's number, which LocalStack takes for one.
	key func(name string, args []string) string
}

// plot says how a walk-through differs from the others.
type plot struct {
	pools    string            // YAML; "" means both pools of the sample
	defaults map[string]string // keys of the section "defaults", which replace those of shortTimes
	noMetal  bool              // instances get no processes
	hurried  bool              // the controller's pauses are short; see hurry
}

// shortTimes make what takes minutes in production happen in seconds.
var shortTimes = map[string]string{
	"policy_interval": "2s", "poll_interval": "1s", "start_limit": "4", "stop_limit": "4",
	"minimum_lifetime": "2s", "minimum_active_time": "2s",
	"verify_sender":   "false", // LocalStack gives all senders one id
	"any_address":     "true",  // its instances are processes of this machine
	"status_interval": "1s", "watchdog_interval": "20s", "report_interval": "5s",
}

var configuration = template.Must(template.New("").Parse(`deployment: ` + deployment + `
backend: aws://{{.Region}}
ops_listen: {{.Ops}}
log_level: debug
clouds:
  aws: {type: ec2, audit_instance_interval: 2s}
defaults:
{{range $key, $value := .Defaults}}  {{$key}}: {{$value}}
{{end}}pools:
{{.Pools}}
`))

const primesPool = `  primes:
    policy: job
    image: walk-primes-*
    cloud: aws
    maximum_number_of_instances: 3
    visibility_timeout: 10s
    settings: {max_n: 2000000000, stop_timeout: 3s}
`

const fibPool = `  fib:
    policy: resource
    image: walk-fib-*
    cloud: aws
    maximum_number_of_instances: 3
    queue_load_factor: 10
    shut_down_grace: 3s
    active_set_type: blob
    active_set_interval: 1s
    settings: {listen: "127.0.0.1:0", drain_timeout: 3s, late_clients: 1s}
`

// begin prepares a walk-through: an empty account with the images, the configuration, and what
// setup makes for it. No program runs yet.
func begin(t testing.TB, p plot) *world {
	t.Helper()
	if test, ok := t.(*testing.T); ok {
		test.Parallel()
	}
	endpoint := os.Getenv("LOCALSTACK_ENDPOINT")
	if endpoint == "" {
		t.Skip("set LOCALSTACK_ENDPOINT to a running LocalStack; make integration does")
	}
	w := newWorld(t, region, fmt.Sprintf("%012d", rand.Int64N(1e12)), endpoint, wire.Options{})
	w.bake("primes-worker", "walk-primes-1")
	w.bake("fib-server", "walk-fib-1")
	if !p.noMetal {
		w.powered(endpoint, metal.Options{})
	}
	w.configure(p)
	w.setup()
	return w
}

// newWorld returns a world in a region of an account, with a wire in front of what answers for AWS at the endpoint.
func newWorld(t testing.TB, region, account, endpoint string, opts wire.Options) *world {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, account: account, region: region, dir: t.TempDir(),
		ops: freeAddress(t), front: freeAddress(t), frontOps: freeAddress(t), images: make(map[string]string),
	}
	var err error
	w.stderr, err = os.Create(filepath.Join(w.dir, "stderr.log"))
	w.must(err)
	t.Cleanup(w.end)
	w.wire, err = wire.Start(t.Context(), endpoint, opts)
	w.must(err)
	w.ec2 = ec2.New(ec2.Options{
		Region: region, BaseEndpoint: aws.String(endpoint), // without the wire, so that our own calls are not counted
		Credentials: credentials.NewStaticCredentialsProvider(w.account, "test", ""),
	})
	return w
}

// powered gives instances their processes. It knows the images that are there by now.
func (w *world) powered(endpoint string, opts metal.Options) {
	w.t.Helper()
	images := make(map[string]string)
	for name, image := range w.images {
		images[image] = w.program(name)
	}
	opts.Wire, opts.Region, opts.Account = w.wire.URL(), w.region, w.account
	var err error
	ctx := context.WithoutCancel(w.t.Context())
	w.metal, err = metal.Start(ctx, endpoint, filepath.Join(w.dir, "instances"), images, opts)
	w.must(err)
}

// configure writes the configuration file.
func (w *world) configure(p plot) {
	w.t.Helper()
	if p.pools == "" {
		p.pools = primesPool + fibPool
	}
	defaults := maps.Clone(shortTimes)
	maps.Copy(defaults, p.defaults)
	var doc strings.Builder
	w.must(configuration.Execute(&doc, map[string]any{
		"Region": w.region, "Ops": w.ops, "Pools": p.pools, "Defaults": defaults,
	}))
	w.config = filepath.Join(w.dir, "cloudmaster.yaml")
	w.must(os.WriteFile(w.config, []byte(doc.String()), 0o600))
}

// configureAsShipped uses deploy/aws/cloudmaster.yaml, with another deployment and other images.
func (w *world) configureAsShipped() {
	w.t.Helper()
	doc, err := os.ReadFile("../../deploy/aws/cloudmaster.yaml")
	w.must(err)
	text := strings.NewReplacer("deployment: sample", "deployment: "+deployment,
		"cloudmaster-primes-*", "walk-primes-*", "cloudmaster-fib-*", "walk-fib-*",
		"127.0.0.1:20810", w.ops, "report: log", "report: console").Replace(string(doc))
	w.must(os.WriteFile(w.config, []byte(text), 0o600))
	w.setup()
}

// bake registers an image under a name.
func (w *world) bake(programName, name string) {
	w.t.Helper()
	out, err := w.ec2.RegisterImage(w.t.Context(), &ec2.RegisterImageInput{Name: aws.String(name)})
	w.must(err)
	w.images[programName] = *out.ImageId
}

// end removes everything, and logs the last lines of all programs if the test has failed.
func (w *world) end() {
	for _, p := range w.others {
		if err := p.Stop(); err != nil {
			w.t.Error(err)
		}
	}
	w.controllerStops()
	if w.metal != nil {
		if err := w.metal.Close(); err != nil {
			w.t.Error(err)
		}
	}
	w.terminateAll()
	if w.wire != nil {
		if err := w.wire.Close(); err != nil {
			w.t.Error(err)
		}
	}
	if w.t.Failed() {
		w.tell()
	}
	_ = w.stderr.Close()
}

// tell logs the last lines of all programs.
func (w *world) tell() {
	files, _ := filepath.Glob(filepath.Join(w.dir, "instances", "*.log"))
	for _, file := range append(files, w.stderr.Name()) {
		if text, err := os.ReadFile(file); err == nil {
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			w.t.Logf("%s:\n%s", filepath.Base(file), strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
	}
	if w.controller != nil {
		w.t.Logf("controller:\n%s", strings.Join(w.controller.Output(0), "\n"))
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) program(name string) string {
	if w.hurried && name == "controller" {
		return filepath.Join(binDir, "hurried", name)
	}
	return filepath.Join(binDir, name)
}

// start starts one of the programs as an operator would, with credentials of the account.
func (w *world) start(name string, args ...string) *program.Process {
	w.t.Helper()
	p, err := program.Start(w.t.Context(), nil, w.stderr, w.environment(name, args), w.program(name), args...)
	w.must(err)
	return p
}

func (w *world) environment(name string, args []string) []string {
	key := w.account
	if w.key != nil {
		key = w.key(name, args)
	}
	return []string{
		"AWS_ACCESS_KEY_ID=" + key, "AWS_SECRET_ACCESS_KEY=test", "AWS_SESSION_TOKEN=",
		"AWS_PROFILE=", "AWS_REGION=", "AWS_DEFAULT_REGION=",
		"AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull,
		"AWS_ENDPOINT_URL=" + w.wire.URL(), "AWS_EC2_METADATA_DISABLED=true",
	}
}

// run is start for a client, which is stopped with the walk-through if it has not ended before.
func (w *world) run(name string, args ...string) *program.Process {
	w.t.Helper()
	p := w.start(name, args...)
	w.others = append(w.others, p)
	return p
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// listed returns the account's instances that are not terminated.
func (w *world) listed() []types.Instance {
	w.t.Helper()
	var out []types.Instance
	pages := ec2.NewDescribeInstancesPaginator(w.ec2, &ec2.DescribeInstancesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.WithoutCancel(w.t.Context()))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, r := range page.Reservations {
			for _, in := range r.Instances {
				if in.State.Name != types.InstanceStateNameTerminated {
					out = append(out, in)
				}
			}
		}
	}
	return out
}

func (w *world) terminateAll() {
	if w.ec2 == nil {
		return
	}
	var ids []string
	for _, in := range w.listed() {
		ids = append(ids, *in.InstanceId)
	}
	if len(ids) == 0 {
		return
	}
	in := &ec2.TerminateInstancesInput{InstanceIds: ids}
	if _, err := w.ec2.TerminateInstances(context.WithoutCancel(w.t.Context()), in); err != nil {
		w.t.Error(err)
	}
}

// patience is how long an expectation may take to come true, also on a busy machine.
const patience = 90 * time.Second

// sees fails the test unless look returns true in time.
func (w *world) sees(what string, look func() (string, bool)) {
	w.t.Helper()
	if seen := program.Until(w.t.Context(), patience, look); seen.Err != nil {
		w.t.Fatalf("expected %s, saw %q: %v", what, seen.Text, seen.Err)
	}
}

// still fails the test if look returns false at any time during that span.
func (w *world) still(what string, long time.Duration, look func() (string, bool)) {
	w.t.Helper()
	seen := program.Until(w.t.Context(), long, func() (string, bool) {
		text, ok := look()
		return text, !ok
	})
	if seen.Err == nil {
		w.t.Fatalf("expected %s for %s, saw %q", what, long, seen.Text)
	}
}
