package ec2

import (
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"cloudmaster/integration/aws/call"
)

// namespace is that of the version of EC2's API that the SDK speaks.
const namespace = "http://ec2.amazonaws.com/doc/2016-11-15/"

// writeXML answers a call.
func writeXML(w http.ResponseWriter, caller *call.Caller, action string, answer any) {
	body, err := xml.Marshal(answer)
	if err != nil {
		panic(err) // the answers are structures of texts and numbers
	}
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.Header().Set("X-Amzn-Requestid", caller.RequestID)
	// The answer's own element is left out: only its content is wrapped.
	inner := body[len("<answer>") : len(body)-len("</answer>")]
	fmt.Fprintf(w, "<%sResponse xmlns=%q><requestId>%s</requestId>%s</%[1]sResponse>", action, namespace,
		caller.RequestID, inner)
}

// done is the answer of actions that return nothing else.
type done struct {
	XMLName xml.Name `xml:"answer"`
	Return  bool     `xml:"return"`
}

func yes() done { return done{Return: true} }

// tag is a tag in an answer.
type tag struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

// tagSet returns tags sorted by their keys.
func tagSet(tags map[string]string) []tag {
	out := make([]tag, 0, len(tags))
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, tag{Key: key, Value: tags[key]})
	}
	return out
}
