package wire

import (
	"net/http"
	"net/url"
	"strings"
)

// Call is what was asked: {sqs ReceiveMessage}, {ec2 RunInstances}, {s3 PUT}.
type Call struct {
	Service string
	Action  string // for S3 the method
}

// classify tells what a request asks for. form is that of the query protocol, nil elsewhere.
func classify(r *http.Request, body []byte) (call Call, form url.Values) {
	service := scope(r.Header.Get("Authorization"))
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		prefix, action, _ := strings.Cut(target, ".")
		if service == "" {
			service = strings.ToLower(strings.TrimPrefix(prefix, "Amazon"))
		}
		return Call{Service: service, Action: action}, nil
	}
	if r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		form, err := url.ParseQuery(string(body))
		if err == nil && form.Has("Action") {
			if service == "" {
				service = "ec2"
			}
			return Call{Service: service, Action: form.Get("Action")}, form
		}
	}
	if service == "" {
		service = "s3"
	}
	return Call{Service: service, Action: r.Method}, nil
}

// scope returns the service that a request is signed for:
// "… Credential=KEY/20300102/eu-west-1/ec2/aws4_request, …" is for ec2.
func scope(authorization string) string {
	_, credential, _ := strings.Cut(authorization, "Credential=")
	credential, _, _ = strings.Cut(credential, ",")
	parts := strings.Split(credential, "/")
	if len(parts) < 5 { // key, day, region, service, end
		return ""
	}
	return parts[len(parts)-2]
}
