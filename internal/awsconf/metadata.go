package awsconf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	envMetadataEndpoint = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
	envMetadataDisabled = "AWS_EC2_METADATA_DISABLED"

	metadataAttempts    = 3
	metadataTryTimeout  = 2 * time.Second
	metadataCallTimeout = 5 * time.Second // for all tries of a call, and the token
)

// MetadataOptions of NewMetadata; the zero value works.
type MetadataOptions struct {
	DMI fs.FS // what the firmware says of the machine; nil is /sys/class/dmi/id
}

// Metadata asks the metadata service of the EC2 instance that this process runs on. It uses version 2 of that service
// (IMDSv2) only. The endpoint is what AWS_EC2_METADATA_SERVICE_ENDPOINT was when NewMetadata was called, or else EC2's
// own. Every call ends within seconds.
type Metadata struct {
	client   *imds.Client
	endpoint string // "" is EC2's own
	dmi      fs.FS
}

// NewMetadata returns a Metadata. It does not ask the service yet.
func NewMetadata(opts MetadataOptions) *Metadata {
	if opts.DMI == nil {
		opts.DMI = os.DirFS("/sys/class/dmi/id")
	}
	endpoint := os.Getenv(envMetadataEndpoint)
	return &Metadata{
		endpoint: endpoint,
		dmi:      opts.DMI,
		client: imds.New(imds.Options{
			Endpoint:       endpoint,
			EnableFallback: aws.FalseTernary, // IMDSv2 only
			HTTPClient:     newMetadataHTTPClient(),
			Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts = metadataAttempts
			}),
		}),
	}
}

// newMetadataHTTPClient returns a client that uses no proxy, because a proxy would ask about its own machine. It keeps
// no connections open, because the service is asked only a few times at the start and then every few seconds.
func newMetadataHTTPClient() *http.Client {
	return &http.Client{
		Timeout:       metadataTryTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:       (&net.Dialer{Timeout: metadataTryTimeout}).DialContext,
			DisableKeepAlives: true,
		},
	}
}

// OnEC2 reports, without using the network, whether there is a metadata service: its endpoint is set, or the firmware
// says that this is EC2. With AWS_EC2_METADATA_DISABLED=true it always returns false.
func (m *Metadata) OnEC2() bool {
	switch {
	case strings.EqualFold(os.Getenv(envMetadataDisabled), "true"):
		return false
	case m.endpoint != "":
		return true
	}
	for _, name := range []string{"sys_vendor", "board_vendor"} {
		if vendor, err := fs.ReadFile(m.dmi, name); err == nil && strings.TrimSpace(string(vendor)) == "Amazon EC2" {
			return true
		}
	}
	return false
}

// UserData returns the user data that the instance was launched with; empty if there is none.
func (m *Metadata) UserData(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataCallTimeout)
	defer cancel()
	out, err := m.client.GetUserData(ctx, nil)
	if err != nil {
		return nil, unlessAbsent("user-data", err)
	}
	return read("user-data", out.Content)
}

// InstanceID returns the instance's id.
func (m *Metadata) InstanceID(ctx context.Context) (string, error) {
	return m.must(ctx, "instance-id")
}

// Region returns the region that the instance runs in.
func (m *Metadata) Region(ctx context.Context) (string, error) {
	return m.must(ctx, "placement/region")
}

// Host returns the name or address under which clients reach the instance: the first that it has of public name,
// public address, private name and private address; with private, of private address and private name. Empty if it
// has none of them.
func (m *Metadata) Host(ctx context.Context, private bool) (string, error) {
	paths := []string{"public-hostname", "public-ipv4", "local-hostname", "local-ipv4"}
	if private {
		paths = []string{"local-ipv4", "local-hostname"}
	}
	for _, path := range paths {
		if host, err := m.get(ctx, path); err != nil || host != "" {
			return host, err
		}
	}
	return "", nil
}

// Interruption returns what EC2 is going to do with a spot instance, and when, as in
// "terminate at 2026-03-01T10:00:00Z"; empty if EC2 has announced nothing.
func (m *Metadata) Interruption(ctx context.Context) (string, error) {
	const path = "spot/instance-action"
	doc, err := m.get(ctx, path)
	if err != nil || doc == "" {
		return "", err
	}
	var notice struct {
		Action string `json:"action"`
		Time   string `json:"time"`
	}
	if err := json.Unmarshal([]byte(doc), &notice); err != nil {
		return "", fmt.Errorf("EC2 metadata %s: %w", path, err)
	}
	if notice.Action == "" {
		return "", fmt.Errorf("EC2 metadata %s: no action in %.200q", path, doc)
	}
	return notice.Action + " at " + notice.Time, nil
}

// must returns an item of the metadata that every instance has; it is an error if the item is missing.
func (m *Metadata) must(ctx context.Context, path string) (string, error) {
	value, err := m.get(ctx, path)
	if err == nil && value == "" {
		err = fmt.Errorf("EC2 metadata %s: the service does not know it", path)
	}
	return value, err
}

// get returns an item of the metadata; empty if there is none.
func (m *Metadata) get(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataCallTimeout)
	defer cancel()
	out, err := m.client.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
	if err != nil {
		return "", unlessAbsent(path, err)
	}
	value, err := read(path, out.Content)
	return strings.TrimSpace(string(value)), err
}

// read returns all of an answer's body and closes it.
func read(path string, body io.ReadCloser) ([]byte, error) {
	value, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		return nil, fmt.Errorf("EC2 metadata %s: %w", path, err)
	}
	return value, nil
}

// unlessAbsent returns nil if the service answered that it does not have the item (404). A 404 to the request for a
// token stays an error, because the item itself was then not asked for.
func unlessAbsent(path string, err error) error {
	status, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if ok && status.HTTPStatusCode() == http.StatusNotFound && !ofToken(err) {
		return nil
	}
	return fmt.Errorf("EC2 metadata %s: %w", path, err)
}

// ofToken reports whether a call failed because it got no token. The SDK asks for the token in a call within the call.
func ofToken(err error) bool {
	call, ok := errors.AsType[*smithy.OperationError](err)
	if !ok {
		return false
	}
	_, ok = errors.AsType[*smithy.OperationError](call.Err)
	return ok
}
