package metal

import (
	"context"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// defaultAccount is the access key that stands for LocalStack's default account.
const defaultAccount = "test"

const (
	apiVersion  = "2016-11-15"
	callTimeout = 20 * time.Second
	mostAnswer  = 32 << 20
)

// deploymentTag is on the instances that get a process from us.
const deploymentTag = "cloudmaster:deployment"

// instance is what we need to know about an EC2 instance.
type instance struct {
	id, image, state string
	launched         string // when it was started last, as EC2 writes it
	userData         string
}

// ec2 asks for instances with plain requests instead of the adapter's code: only two calls are
// needed, and the walk-throughs should not share a bug with the adapter that they check. LocalStack
// reads the region from the signature, but does not verify the signature.
type ec2 struct {
	endpoint, region string
	account          string // access key: LocalStack takes a number of 12 digits for the account
	client           *http.Client
}

// list returns every instance that has the tag, in any state.
func (e ec2) list(ctx context.Context) ([]instance, error) {
	var out []instance
	for token := ""; ; {
		form := url.Values{"Filter.1.Name": {"tag-key"}, "Filter.1.Value.1": {deploymentTag}}
		if token != "" {
			form.Set("NextToken", token)
		}
		var page struct {
			Instances []struct {
				ID    string `xml:"instanceId"`
				Image string `xml:"imageId"`
				State string `xml:"instanceState>name"`
				Start string `xml:"launchTime"`
			} `xml:"reservationSet>item>instancesSet>item"`
			Next string `xml:"nextToken"`
		}
		if err := e.call(ctx, "DescribeInstances", form, &page); err != nil {
			return nil, err
		}
		for _, i := range page.Instances {
			out = append(out, instance{id: i.ID, image: i.Image, state: i.State, launched: i.Start})
		}
		if token = page.Next; token == "" {
			return out, nil
		}
	}
}

// userData returns the user data with which the instance was launched.
func (e ec2) userData(ctx context.Context, id string) (string, error) {
	var attribute struct {
		Value string `xml:"userData>value"`
	}
	form := url.Values{"InstanceId": {id}, "Attribute": {"userData"}}
	if err := e.call(ctx, "DescribeInstanceAttribute", form, &attribute); err != nil {
		return "", err
	}
	text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(attribute.Value))
	if err != nil {
		return "", fmt.Errorf("user data of %s: %w", id, err)
	}
	return string(text), nil
}

func (e ec2) call(ctx context.Context, action string, form url.Values, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	form.Set("Action", action)
	form.Set("Version", apiVersion)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.endpoint+"/", strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	day := time.Now().UTC()
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	req.Header.Set("X-Amz-Date", day.Format("20060102T150405Z"))
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s/%s/ec2/aws4_request, "+
		"SignedHeaders=host;x-amz-date, Signature=0",
		e.account, day.Format("20060102"), e.region))
	resp, err := e.client.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read to its end
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	if err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %.200s", action, resp.Status, body)
	}
	if err := xml.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	return nil
}
