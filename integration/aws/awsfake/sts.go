package awsfake

import (
	"fmt"
	"net/http"

	"cloudmaster/integration/aws/call"
)

// sts is the Security Token Service: it says who the caller is, which needs no permission. Source: STS API Reference,
// GetCallerIdentity.
type sts struct{}

// Serve implements call.Service.
func (sts) Serve(w http.ResponseWriter, r *http.Request, caller call.Caller) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	if err := r.ParseForm(); err != nil {
		caller.WriteQuery(w, call.Errorf("MalformedQueryString", "%v", err))
		return
	}
	if action := r.PostForm.Get("Action"); action != "GetCallerIdentity" {
		caller.WriteQuery(w, call.Errorf("InvalidAction", "Could not find operation %s for version 2011-06-15", action))
		return
	}
	caller.Note("sts:GetCallerIdentity")
	p := caller.Principal
	w.Header().Set("Content-Type", "text/xml")
	fmt.Fprintf(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">`+
		"<GetCallerIdentityResult><Arn>%s</Arn><UserId>%s</UserId><Account>%s</Account></GetCallerIdentityResult>"+
		"<ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></GetCallerIdentityResponse>",
		call.Escape(p.ARN), call.Escape(p.UserID), p.Account, caller.RequestID)
}
