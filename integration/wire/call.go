package wire

import (
	"net/http"
	"net/url"
	"strings"
)

// Call is the kind of a request: {sqs ReceiveMessage}, {ec2 RunInstances}, {s3 PUT}.
type Call struct {
	Service string
	Action  string // for S3 the HTTP method
}

// classify returns what a request asks for. form is the form of the query protocol, and nil for
// other protocols.
func classify(r *http.Request, body []byte) (call Call, form url.Values) {
	service := scope(r.Header.Get("Authorization"))
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		prefix, action, _ := strings.Cut(target, ".")
		if service == "" {
			service = strings.ToLower(strings.TrimPrefix(prefix, "Amazon"))
		}
		return Call{Service: service, Action: action}, nil
	}
	const formType = "application/x-www-form-urlencoded"
	if r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), formType) {
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

// scope returns the service for which a request is signed: ec2 for "…
// Credential=KEY/20300102/eu-west-1/ec2/aws4_request, …".
func scope(authorization string) string {
	_, credential, _ := strings.Cut(authorization, "Credential=")
	credential, _, _ = strings.Cut(credential, ",")
	parts := strings.Split(credential, "/")
	if len(parts) < 5 { // key, day, region, service, end
		return ""
	}
	return parts[len(parts)-2]
}
