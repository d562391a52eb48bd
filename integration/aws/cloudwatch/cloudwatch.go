// Package cloudwatch is a fake of the one call of CloudWatch that CloudMaster makes: how old the messages of queues
// are. It has no values, as CloudWatch has none of queues without messages.
//
// It speaks the protocol that the SDK chooses for CloudWatch (Smithy RPC v2 with CBOR). Sources: CloudWatch API
// Reference, GetMetricData; Smithy, "Smithy RPC v2 CBOR protocol".
package cloudwatch

import (
	"io"
	"net/http"
	"strings"

	"github.com/aws/smithy-go/encoding/cbor"

	"cloudmaster/integration/aws/call"
)

// Name is the name for which requests to CloudWatch are signed.
const Name = "monitoring"

// mostBody bounds a request.
const mostBody = 1 << 20

// Service is CloudWatch. Its zero value works.
type Service struct{}

var _ call.Service = Service{}

// Serve implements call.Service.
func (Service) Serve(w http.ResponseWriter, r *http.Request, caller call.Caller) {
	w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
	w.Header().Set("Content-Type", "application/cbor")
	if !strings.HasSuffix(r.URL.Path, "/operation/GetMetricData") {
		refuse(w, http.StatusNotFound, "UnknownOperationException", "this fake of CloudWatch has no "+r.URL.Path)
		return
	}
	ids, ok := queries(http.MaxBytesReader(w, r.Body, mostBody))
	if !ok {
		refuse(w, http.StatusBadRequest, "SerializationException", "the request is not one of GetMetricData")
		return
	}
	one := call.Call{Action: "cloudwatch:GetMetricData", Resources: []string{"*"}}
	if why := caller.Ask(one); why != nil {
		denied := caller.Denied("AccessDenied", one, why)
		refuse(w, http.StatusForbidden, denied.Code, denied.Message)
		return
	}
	results := make(cbor.List, 0, len(ids))
	for _, id := range ids {
		results = append(results, cbor.Map{
			"Id": id, "StatusCode": cbor.String("Complete"), "Values": cbor.List{}, "Timestamps": cbor.List{},
		})
	}
	_, _ = w.Write(cbor.Encode(cbor.Map{"MetricDataResults": results})) // fails only if the caller is gone
}

// queries returns the ids of a request's queries; false if it has none.
func queries(body io.Reader) (ids []cbor.Value, ok bool) {
	raw, err := io.ReadAll(body)
	if err != nil {
		return nil, false
	}
	in, err := cbor.Decode(raw)
	form, isMap := in.(cbor.Map)
	if err != nil || !isMap {
		return nil, false
	}
	list, isList := form["MetricDataQueries"].(cbor.List)
	for _, q := range list {
		query, isMap := q.(cbor.Map)
		if !isMap || query["Id"] == nil {
			return nil, false
		}
		ids = append(ids, query["Id"])
	}
	return ids, isList && len(ids) > 0
}

func refuse(w http.ResponseWriter, status int, code, text string) {
	w.WriteHeader(status)
	_, _ = w.Write(cbor.Encode(cbor.Map{"__type": cbor.String(code), "message": cbor.String(text)}))
}
