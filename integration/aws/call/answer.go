package call

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
)

// Error is an error as a service answers it.
type Error struct {
	Status  int    // of HTTP; zero means 400
	Code    string // InvalidInstanceID.NotFound
	Message string
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Errorf is an error with status 400, which says that the request is at fault.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Denied is the error of a call that the authorizer does not allow, with the code that the service has for it:
// AccessDenied for most, UnauthorizedOperation for EC2.
func (c *Caller) Denied(code string, one Call, why error) *Error {
	return &Error{
		Status: http.StatusForbidden, Code: code,
		Message: fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s %v",
			c.Principal.ARN, one.Action, strings.Join(one.Resources, ", "), why),
	}
}

func (e *Error) status() int {
	if e.Status == 0 {
		return http.StatusBadRequest
	}
	return e.Status
}

// fault says whose fault the error is.
func (e *Error) fault() string {
	if e.status() >= http.StatusInternalServerError {
		return "Receiver"
	}
	return "Sender"
}

// WriteEC2 answers an error as EC2's query protocol does.
func (c *Caller) WriteEC2(w http.ResponseWriter, e *Error) {
	c.write(w, e.status(), "text/xml;charset=UTF-8", fmt.Sprintf(
		"<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>%s</RequestID>"+
			"</Response>",
		Escape(e.Code), Escape(e.Message), c.RequestID))
}

// WriteQuery answers an error as the query protocol of IAM and STS does.
func (c *Caller) WriteQuery(w http.ResponseWriter, e *Error) {
	c.write(w, e.status(), "text/xml", fmt.Sprintf(
		"<ErrorResponse><Error><Type>%s</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>%s</RequestId>"+
			"</ErrorResponse>", e.fault(), Escape(e.Code), Escape(e.Message), c.RequestID))
}

// WriteS3 answers an error as S3 does. The answer to a HEAD has no body.
func (c *Caller) WriteS3(w http.ResponseWriter, r *http.Request, e *Error) {
	body := ""
	if r.Method != http.MethodHead {
		body = fmt.Sprintf("<Error><Code>%s</Code><Message>%s</Message><Resource>%s</Resource>"+
			"<RequestId>%s</RequestId></Error>", Escape(e.Code), Escape(e.Message), Escape(r.URL.Path), c.RequestID)
	}
	c.write(w, e.status(), "application/xml", body)
}

// WriteJSON answers an error as the JSON protocol does: shape is its name there (com.amazonaws.sqs#QueueDoesNotExist),
// and the error's code is the one of the query protocol, which SQS sends along.
func (c *Caller) WriteJSON(w http.ResponseWriter, shape string, e *Error) {
	w.Header().Set("X-Amzn-Query-Error", e.Code+";"+e.fault())
	text, err := json.Marshal(map[string]string{"__type": shape, "message": e.Message})
	if err != nil {
		panic(err) // strings can always be encoded
	}
	c.write(w, e.status(), "application/x-amz-json-1.0", string(text))
}

func (c *Caller) write(w http.ResponseWriter, status int, kind, body string) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("X-Amzn-Requestid", c.RequestID)
	w.WriteHeader(status)
	fmt.Fprint(w, body)
}

// Escape returns a text as XML holds it.
func Escape(text string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(text)) // a Builder does not fail
	return out.String()
}
