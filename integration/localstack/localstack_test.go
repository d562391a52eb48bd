package localstack

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

var quiet = slog.New(slog.DiscardHandler)

func TestStartUsesTheEndpointThatIsSet(t *testing.T) {
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked = r.URL.Path }))
	defer server.Close()
	t.Setenv(EndpointVar, server.URL+"/")
	endpoint, stop, err := Start(t.Context(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	if endpoint != server.URL {
		t.Errorf("endpoint: got %s, want %s", endpoint, server.URL)
	}
	if asked != "/_localstack/health" {
		t.Errorf("asked for %q, want /_localstack/health", asked)
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestStartNamesAnEndpointThatIsNoLocalStack(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	cases := map[string]string{"another server": server.URL, "no address": "http://%zz"}
	t.Cleanup(server.Close)
	for name, endpoint := range cases {
		t.Run(name, func(t *testing.T) {
			t.Setenv(EndpointVar, endpoint)
			_, _, err := Start(t.Context(), quiet)
			if err == nil || !strings.Contains(err.Error(), EndpointVar) || !strings.Contains(err.Error(), endpoint) {
				t.Errorf("got %v, want an error with %s and %s", err, EndpointVar, endpoint)
			}
		})
	}
	server.Close()
	t.Run("nobody there", func(t *testing.T) {
		t.Setenv(EndpointVar, server.URL)
		if _, _, err := Start(t.Context(), quiet); err == nil || !strings.Contains(err.Error(), server.URL) {
			t.Errorf("got %v, want an error with %s", err, server.URL)
		}
	})
}

func TestStartWithoutDockerSaysWhatToDo(t *testing.T) {
	t.Parallel()
	gone := errors.New("nobody at the socket")
	connect := func(context.Context) (*testcontainers.DockerProvider, error) { return nil, gone }
	_, _, err := startContainer(t.Context(), quiet, connect)
	if !errors.Is(err, gone) {
		t.Fatalf("got %v, want an error that wraps %v", err, gone)
	}
	for _, want := range []string{"install Docker", EndpointVar, "make localstack-image"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want an error that says %s", err, want)
		}
	}
}

// shelf is a Docker client that has some images, and may be unable to pull others.
type shelf struct {
	have    map[string]bool
	pullErr error
}

func (s shelf) ImageInspect(
	_ context.Context, image string, _ ...client.ImageInspectOption,
) (client.ImageInspectResult, error) {
	if s.have[image] {
		return client.ImageInspectResult{}, nil
	}
	return client.ImageInspectResult{}, errors.New("no such image")
}

func (s shelf) ImagePull(_ context.Context, image string, _ client.ImagePullOptions) (client.ImagePullResponse, error) {
	if s.pullErr != nil {
		return nil, s.pullErr
	}
	s.have[image] = true
	return pulled{}, nil
}

type pulled struct{ client.ImagePullResponse }

func (pulled) Wait(context.Context) error { return nil }
func (pulled) Close() error               { return nil }

func TestChoose(t *testing.T) {
	t.Parallel()
	offline := errors.New("registry unreachable")
	cases := map[string]struct {
		have    map[string]bool
		pullErr error
		want    string
	}{
		"here already": {
			have: map[string]bool{pulledImage: true, builtImage: true}, pullErr: offline, want: pulledImage,
		},
		"can be pulled":            {have: map[string]bool{}, want: pulledImage},
		"pulled before built":      {have: map[string]bool{builtImage: true}, want: pulledImage},
		"cannot be pulled, built":  {have: map[string]bool{builtImage: true}, pullErr: offline, want: builtImage},
		"cannot be pulled nor had": {have: map[string]bool{}, pullErr: offline},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := choose(t.Context(), quiet, shelf{have: c.have, pullErr: c.pullErr})
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if c.want == "" && (!errors.Is(err, offline) || !strings.Contains(err.Error(), "make localstack-image")) {
				t.Errorf("got %v, want an error that wraps %v and names make localstack-image", err, offline)
			}
		})
	}
}

func TestNextStep(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"create container: reaper: new reaper: no such host": "TESTCONTAINERS_RYUK_DISABLED",
		"wait until ready: context deadline exceeded":        "TESTCONTAINERS_HOST_OVERRIDE",
		"port is already allocated":                          "",
	} {
		if got := nextStep(errors.New(text)); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: got %q, want %q in it", text, got, want)
		}
	}
}
