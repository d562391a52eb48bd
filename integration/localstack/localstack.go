// Package localstack gives tests and walk-throughs a LocalStack: the one that LOCALSTACK_ENDPOINT
// names, or a container that it starts.
package localstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tclocalstack "github.com/testcontainers/testcontainers-go/modules/localstack"
)

// EndpointVar is the environment variable with the address of a running LocalStack.
const EndpointVar = "LOCALSTACK_ENDPOINT"

const (
	pulledImage = "localstack/localstack:4.14.0" // the last version that runs without an account
	builtImage  = "localhost/localstack-pypi:4.14.0"
	port        = "4566/tcp"
)

const (
	healthTimeout = 10 * time.Second
	dockerTimeout = 10 * time.Second
	pullTimeout   = 10 * time.Minute
)

// environment is the container's environment. Queue addresses must contain the port that the caller
// used, because the container does not know that one. Telemetry is off.
var environment = map[string]string{
	"SERVICES":               "ec2,s3,sqs,sns,events,ssm,sts,iam,cloudwatch",
	"SQS_ENDPOINT_STRATEGY":  "dynamic",
	"DISABLE_EVENTS":         "1",
	"SKIP_SSL_CERT_DOWNLOAD": "1",
	"DNS_ADDRESS":            "0",
}

// Start returns the address of a LocalStack that answers. stop ends what Start has started; a
// LocalStack that ran before is left alone.
func Start(ctx context.Context, log *slog.Logger) (endpoint string, stop func() error, err error) {
	if endpoint := strings.TrimRight(os.Getenv(EndpointVar), "/"); endpoint != "" {
		if err := healthy(ctx, endpoint); err != nil {
			return "", nil, err
		}
		return endpoint, func() error { return nil }, nil
	}
	return startContainer(ctx, log, engine)
}

func startContainer(
	ctx context.Context, log *slog.Logger, connect func(context.Context) (*testcontainers.DockerProvider, error),
) (endpoint string, stop func() error, err error) {
	docker, err := connect(ctx)
	if err != nil {
		return "", nil, fmt.Errorf("no LocalStack: install Docker, set %s to a running LocalStack, "+
			"or, where no image can be pulled, run make localstack-image: %w", EndpointVar, err)
	}
	defer func() { err = errors.Join(err, docker.Close()) }()
	image, err := choose(ctx, log, docker.Client())
	if err != nil {
		return "", nil, err
	}
	return run(ctx, log, image)
}

// healthy checks that a LocalStack answers at the endpoint, and that it is ready.
func healthy(ctx context.Context, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/_localstack/health", http.NoBody)
	if err != nil {
		return fmt.Errorf("%s is %q, which is not an address: %w", EndpointVar, endpoint, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%s is %s, and no LocalStack answers there; "+
			"start it, or unset the variable to have one started: %w", EndpointVar, endpoint, err)
	}
	defer func() { _ = resp.Body.Close() }() // the body is not needed
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s is %s, and there is no healthy LocalStack: /_localstack/health answers %s",
			EndpointVar, endpoint, resp.Status)
	}
	return nil
}

// engine connects to Docker and checks that it answers.
func engine(ctx context.Context) (docker *testcontainers.DockerProvider, err error) {
	// The library panics in some of the cases in which Docker is missing.
	defer func() {
		if r := recover(); r != nil {
			docker, err = nil, fmt.Errorf("docker: %v", r)
		}
	}()
	docker, err = testcontainers.NewDockerProvider(testcontainers.WithLogger(printer{slog.New(slog.DiscardHandler)}))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dockerTimeout)
	defer cancel()
	if _, err := docker.Client().Ping(ctx, client.PingOptions{}); err != nil {
		return nil, errors.Join(err, docker.Close())
	}
	return docker, nil
}

// images is the part of a Docker client that choose needs.
type images interface {
	ImageInspect(
		ctx context.Context, image string, opts ...client.ImageInspectOption,
	) (client.ImageInspectResult, error)
	ImagePull(ctx context.Context, image string, opts client.ImagePullOptions) (client.ImagePullResponse, error)
}

// choose returns the published image if it is here or can be pulled, and otherwise the one that
// "make localstack-image" builds.
func choose(ctx context.Context, log *slog.Logger, docker images) (string, error) {
	if _, err := docker.ImageInspect(ctx, pulledImage); err == nil {
		return pulledImage, nil
	}
	log.InfoContext(ctx, "pulling image", "image", pulledImage)
	pullErr := pull(ctx, docker)
	if pullErr == nil {
		return pulledImage, nil
	}
	if _, err := docker.ImageInspect(ctx, builtImage); err != nil {
		return "", fmt.Errorf("no LocalStack: %s cannot be pulled, and %s is not built; "+
			"run make localstack-image, or set %s: %w", pulledImage, builtImage, EndpointVar, pullErr)
	}
	log.InfoContext(ctx, "image cannot be pulled, using the built one", "image", builtImage, "error", pullErr)
	return builtImage, nil
}

// pull tries only once. The library itself would go on trying for a quarter of an hour.
func pull(ctx context.Context, docker images) error {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	resp, err := docker.ImagePull(ctx, pulledImage, client.ImagePullOptions{})
	if err != nil {
		return err
	}
	return errors.Join(resp.Wait(ctx), resp.Close())
}

func run(ctx context.Context, log *slog.Logger, image string) (string, func() error, error) {
	began := time.Now()
	c, err := tclocalstack.Run(ctx, image,
		testcontainers.WithEnv(environment),
		// LocalStack needs Docker's socket only for services that are not used here.
		testcontainers.WithHostConfigModifier(func(hc *container.HostConfig) { hc.Binds = nil }),
		testcontainers.WithLogger(printer{log}),
	)
	stop := func() error {
		if c == nil {
			return nil
		}
		return testcontainers.TerminateContainer(c)
	}
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("start %s%s: %w", image, nextStep(err), err), stop())
	}
	endpoint, err := c.PortEndpoint(ctx, port, "http")
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("start %s: %w", image, err), stop())
	}
	log.InfoContext(ctx, "LocalStack runs",
		"image", image, "endpoint", endpoint, "took", time.Since(began).Round(time.Millisecond))
	return endpoint, stop, nil
}

// nextStep returns what to do about an error of the library, or nothing if that is unknown.
func nextStep(err error) string {
	switch text := err.Error(); {
	case strings.Contains(text, "reaper"):
		return ": the image of testcontainers' reaper cannot be pulled; " +
			"set TESTCONTAINERS_RYUK_DISABLED=true to do without it"
	case strings.Contains(text, "deadline exceeded"):
		return ": it cannot be reached; if you are in a container yourself, set TESTCONTAINERS_HOST_OVERRIDE=localhost"
	}
	return ""
}

// printer passes the messages of testcontainers to a logger.
type printer struct{ log *slog.Logger }

// Printf implements the library's logger.
func (p printer) Printf(format string, args ...any) {
	p.log.Debug("testcontainers", "text", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

var (
	_ images    = client.APIClient(nil)
	_ io.Closer = client.ImagePullResponse(nil)
)
