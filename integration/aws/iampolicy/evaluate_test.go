package iampolicy

import (
	"strings"
	"testing"
)

const (
	acct    = "123456789012"
	queue   = "arn:aws:sqs:eu-west-1:123456789012:jobs"
	session = "arn:aws:sts::123456789012:assumed-role/worker/i-1"
	role    = "arn:aws:iam::123456789012:role/worker"
)

func worker() Principal { return Principal{Account: acct, ARN: session, Role: role} }

func mustParse(t *testing.T, kind Kind, text string) *Document {
	t.Helper()
	doc, err := Parse("doc.json", kind, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// statement is a document with one statement that allows sqs:SendMessage, with this condition.
func conditional(condition string) string {
	return `{"Version":"2012-10-17","Statement":{"Sid":"S","Effect":"Allow","Action":"sqs:SendMessage",` +
		`"Resource":"*","Condition":` + condition + `}}`
}

func decide(t *testing.T, p *Policies, r *Request) Decision {
	t.Helper()
	d, err := Evaluate(p, r)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestConditions has the examples of AWS's documentation of condition operators and multivalued keys.
func TestConditions(t *testing.T) {
	t.Parallel()
	const keys = "aws:TagKeys"
	for name, c := range map[string]struct {
		condition string
		context   map[string][]string
		want      bool
	}{
		"equal":      {`{"StringEquals":{"aws:a":["x","y"]}}`, map[string][]string{"aws:a": {"y"}}, true},
		"other case": {`{"StringEquals":{"aws:a":"X"}}`, map[string][]string{"aws:a": {"x"}}, false},
		"case ignored": {
			`{"StringEqualsIgnoreCase":{"aws:a":"X"}}`,
			map[string][]string{"aws:a": {"x"}},
			true,
		},
		"key of another case": {`{"StringEquals":{"AWS:A":"x"}}`, map[string][]string{"aws:a": {"x"}}, true},
		"tag of another case": {
			`{"StringEquals":{"aws:RequestTag/A":"x"}}`,
			map[string][]string{"aws:RequestTag/a": {"x"}},
			false,
		},
		"star is no wildcard": {`{"StringEquals":{"aws:a":"*"}}`, map[string][]string{"aws:a": {"x"}}, false},
		"missing":             {`{"StringEquals":{"aws:a":"x"}}`, nil, false},
		"missing, negated":    {`{"StringNotEquals":{"aws:a":"x"}}`, nil, true},
		"missing, if exists":  {`{"StringEqualsIfExists":{"aws:a":"x"}}`, nil, true},
		"there, if exists": {
			`{"StringEqualsIfExists":{"aws:a":"x"}}`,
			map[string][]string{"aws:a": {"y"}},
			false,
		},
		"negated list": {
			`{"StringNotEquals":{"aws:a":["x","y"]}}`,
			map[string][]string{"aws:a": {"y"}},
			false,
		},
		"like":                  {`{"StringLike":{"aws:a":"i-*"}}`, map[string][]string{"aws:a": {"i-1:2"}}, true},
		"not like":              {`{"StringNotLike":{"aws:a":"i-?"}}`, map[string][]string{"aws:a": {"i-1"}}, false},
		"bool":                  {`{"Bool":{"aws:a":true}}`, map[string][]string{"aws:a": {"true"}}, true},
		"bool missing":          {`{"Bool":{"aws:a":"false"}}`, nil, false},
		"null":                  {`{"Null":{"aws:a":"true"}}`, nil, true},
		"null of what is there": {`{"Null":{"aws:a":"true"}}`, map[string][]string{"aws:a": {"x"}}, false},
		"not null":              {`{"Null":{"aws:a":false}}`, map[string][]string{"aws:a": {"x"}}, true},
		"less":                  {`{"NumericLessThan":{"aws:a":10}}`, map[string][]string{"aws:a": {"9"}}, true},
		"as text it were less":  {`{"NumericLessThan":{"aws:a":"9"}}`, map[string][]string{"aws:a": {"10"}}, false},
		"at most": {
			`{"NumericLessThanEquals":{"aws:a":"10"}}`,
			map[string][]string{"aws:a": {"10"}},
			true,
		},
		"more": {
			`{"NumericGreaterThan":{"aws:a":"10"}}`,
			map[string][]string{"aws:a": {"10"}},
			false,
		},
		"no number": {`{"NumericEquals":{"aws:a":"10"}}`, map[string][]string{"aws:a": {"ten"}}, false},
		"before": {
			`{"DateLessThan":{"aws:CurrentTime":"2020-01-01T00:00:00Z"}}`,
			map[string][]string{"aws:CurrentTime": {"2019-01-01T00:00:00Z"}},
			true,
		},
		"network": {
			`{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`,
			map[string][]string{"aws:SourceIp": {"10.1.2.3"}},
			true,
		},
		"not of network": {
			`{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`,
			map[string][]string{"aws:SourceIp": {"10.1.2.3"}},
			false,
		},
		"arn part by part": {
			`{"ArnLike":{"aws:SourceArn":"arn:aws:events:*:123456789012:rule/*"}}`,
			map[string][]string{"aws:SourceArn": {"arn:aws:events:eu-west-1:123456789012:rule/a:b"}},
			true,
		},
		"arn equals has wildcards": {
			`{"ArnEquals":{"aws:SourceArn":"arn:aws:events:*:123456789012:rule/*"}}`,
			map[string][]string{"aws:SourceArn": {"arn:aws:events:eu-west-1:123456789012:rule/a"}},
			true,
		},
		"a star is one part of an ARN": {
			`{"ArnLike":{"aws:SourceArn":"arn:aws:*:rule/x"}}`,
			map[string][]string{"aws:SourceArn": {"arn:aws:events:eu-west-1:123456789012:rule/x"}},
			false,
		},
		"all of": {
			`{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}`,
			map[string][]string{keys: {"a", "b"}},
			true,
		},
		"not all of": {
			`{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}`,
			map[string][]string{keys: {"a", "c"}},
			false,
		},
		"all of none": {`{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}`, nil, true},
		"any of": {
			`{"ForAnyValue:StringEquals":{"aws:TagKeys":["a","b"]}}`,
			map[string][]string{keys: {"c", "b"}},
			true,
		},
		"any of none":            {`{"ForAnyValue:StringEquals":{"aws:TagKeys":["a","b"]}}`, nil, false},
		"any other than of none": {`{"ForAnyValue:StringNotEquals":{"aws:TagKeys":"a"}}`, nil, false},
		"any other than": {
			`{"ForAnyValue:StringNotEquals":{"aws:TagKeys":"a"}}`,
			map[string][]string{keys: {"a", "b"}},
			true,
		},
		"all other than": {
			`{"ForAllValues:StringNotEquals":{"aws:TagKeys":"a"}}`,
			map[string][]string{keys: {"a", "b"}},
			false,
		},
		"two operators": {
			`{"StringEquals":{"aws:a":"x"},"Bool":{"aws:b":"true"}}`,
			map[string][]string{"aws:a": {"x"}},
			false,
		},
		"variable": {
			`{"StringEquals":{"aws:a":"${aws:PrincipalAccount}"}}`,
			map[string][]string{"aws:a": {"1"}, "aws:PrincipalAccount": {"1"}},
			true,
		},
		"variable missing": {
			`{"StringEquals":{"aws:a":"${aws:b}"}}`,
			map[string][]string{"aws:a": {"${aws:b}"}},
			false,
		},
		"default of variable": {
			`{"StringEquals":{"aws:a":"${aws:b, 'x'}"}}`,
			map[string][]string{"aws:a": {"x"}},
			true,
		},
		"a value is no pattern": {
			`{"StringLike":{"aws:a":"${aws:b}"}}`,
			map[string][]string{"aws:a": {"x"}, "aws:b": {"*"}},
			false,
		},
		"a star as a character": {
			`{"StringLike":{"aws:a":"${*}"}}`,
			map[string][]string{"aws:a": {"x"}},
			false,
		},
		"the same star": {`{"StringLike":{"aws:a":"${*}"}}`, map[string][]string{"aws:a": {"*"}}, true},
		"variable with a tag": {
			`{"StringEquals":{"aws:a":"${aws:ResourceTag/t:u}"}}`,
			map[string][]string{"aws:a": {"x"}, "aws:ResourceTag/t:u": {"x"}},
			true,
		},
		"missing, negated, if exists": {`{"StringNotEqualsIfExists":{"aws:a":"x"}}`, nil, true},
	} {
		p := &Policies{Identity: []*Document{mustParse(t, Identity, conditional(c.condition))}}
		r := &Request{Action: "sqs:SendMessage", Resource: queue, Principal: worker(), Context: c.context}
		if got := decide(t, p, r); got.Allowed != c.want {
			t.Errorf("%s: %s with %v: got %+v, want %t", name, c.condition, c.context, got, c.want)
		}
	}
}

func TestActionsAndResources(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		elements, action, resource string
		want                       bool
	}{
		"as it is": {
			`"Action":"sqs:SendMessage","Resource":"` + queue + `"`,
			"sqs:SendMessage", queue, true,
		},
		"case of actions": {`"Action":"SQS:sendmessage","Resource":"*"`, "sqs:SendMessage", queue, true},
		"case of resources": {
			`"Action":"sqs:*","Resource":"` + queue[:len(queue)-4] + `JOBS"`,
			"sqs:SendMessage", queue, false,
		},
		"question mark":        {`"Action":"sqs:SendMessag?","Resource":"*"`, "sqs:SendMessage", queue, true},
		"other action":         {`"Action":["sqs:Receive*"],"Resource":"*"`, "sqs:SendMessage", queue, false},
		"not action":           {`"NotAction":"sqs:Send*","Resource":"*"`, "sqs:SendMessage", queue, false},
		"not another action":   {`"NotAction":"iam:*","Resource":"*"`, "sqs:SendMessage", queue, true},
		"not resource":         {`"Action":"*","NotResource":"` + queue + `"`, "sqs:SendMessage", queue, false},
		"not another resource": {`"Action":"*","NotResource":"` + queue + `x"`, "sqs:SendMessage", queue, true},
		"star at the end": {
			`"Action":"*","Resource":"arn:aws:sqs:eu-west-1:123456789012:*"`,
			"sqs:SendMessage", queue, true,
		},
		"star for a region": {
			`"Action":"*","Resource":"arn:aws:sqs:*:123456789012:jobs"`,
			"sqs:SendMessage", queue, true,
		},
		"star within a segment": {
			`"Action":"*","Resource":"arn:aws:s*s:eu-west-1:123456789012:jobs"`,
			"sqs:SendMessage", queue, true,
		},
		"it is not for more": {
			`"Action":"*","Resource":"arn:aws:s*t-1:*:*:*"`,
			"sqs:SendMessage", queue + ":x", false,
		},
		"key of an object": {
			`"Action":"*","Resource":"arn:aws:s3:::b/active-set/*"`,
			"s3:GetObject", "arn:aws:s3:::b/active-set/x/y", true,
		},
		"no key of an object": {
			`"Action":"*","Resource":"arn:aws:s3:::b/*"`,
			"s3:ListBucket", "arn:aws:s3:::b", false,
		},
		"variable": {
			`"Action":"*","Resource":"arn:aws:s3:::b/${aws:PrincipalAccount}/*"`,
			"s3:GetObject", "arn:aws:s3:::b/" + acct + "/x", true,
		},
	} {
		text := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",` + c.elements + `}]}`
		p := &Policies{Identity: []*Document{mustParse(t, Identity, text)}}
		r := &Request{
			Action: c.action, Resource: c.resource, Principal: worker(),
			Context: map[string][]string{"aws:PrincipalAccount": {acct}},
		}
		if got := decide(t, p, r); got.Allowed != c.want {
			t.Errorf("%s: %s: got %+v, want %t", name, c.elements, got, c.want)
		}
	}
}

const (
	versioned = `{"Version":"2012-10-17","Statement":[`
	allowSend = versioned + `{"Sid":"Send","Effect":"Allow","Action":"sqs:SendMessage","Resource":"*"}]}`
	denySend  = versioned + `{"Sid":"No","Effect":"Deny","Action":"sqs:SendMessage","Resource":"*"}]}`
	allowIAM  = versioned + `{"Sid":"Other","Effect":"Allow","Action":"iam:*","Resource":"*"}]}`
)

func queuePolicy(effect, principal string) string {
	return versioned + `{"Sid":"Q","Effect":"` + effect + `","Action":"sqs:*","Resource":"` + queue +
		`","Principal":` + principal + `}]}`
}

// TestTogether is the table of AWS's page on policy evaluation logic: who must allow, and that a denial wins.
func TestTogether(t *testing.T) {
	t.Parallel()
	toSession, toRole := `{"AWS":"`+session+`"}`, `{"AWS":"`+role+`"}`
	toAccount := `{"AWS":"arn:aws:iam::123456789012:root"}`
	for name, c := range map[string]struct {
		identity, boundary, session, resource, owner string
		want                                         bool
		why                                          string
	}{
		"nothing": {why: "no identity-based policy allows"},
		"identity": {
			identity: allowSend, want: true,
			why: "allowed by statement Send of doc.json",
		},
		"denied by the resource": {
			identity: allowSend,
			resource: queuePolicy("Deny", `"*"`), why: "explicit deny in statement Q",
		},
		"within the boundary": {identity: allowSend, boundary: allowSend, want: true},
		"beyond the boundary": {
			identity: allowSend,
			boundary: allowIAM, why: "no permissions boundary allows",
		},
		"a boundary gives nothing": {
			identity: allowIAM,
			boundary: allowSend, why: "no identity-based policy allows",
		},
		"denied by the boundary": {identity: allowSend, boundary: denySend, why: "explicit deny"},
		"beyond the session":     {identity: allowSend, session: allowIAM, why: "no session policy allows"},
		"resource for the role":  {resource: queuePolicy("Allow", toRole), want: true},
		"for the role, beyond boundary": {
			resource: queuePolicy("Allow", toRole),
			boundary: allowIAM, why: "boundary",
		},
		"for the session, whatever":   {resource: queuePolicy("Allow", toSession), boundary: allowIAM, want: true},
		"for the session, but denied": {resource: queuePolicy("Allow", toSession), boundary: denySend, why: "deny"},
		"for everybody":               {resource: queuePolicy("Allow", `"*"`), want: true},
		"for the account alone":       {resource: queuePolicy("Allow", toAccount), why: "no identity-based"},
		"for the account by number": {
			resource: queuePolicy("Allow", `{"AWS":["123456789012"]}`),
			why:      "no identity-based",
		},
		"for somebody else": {
			resource: queuePolicy("Allow", `{"AWS":"arn:aws:iam::123456789012:role/x"}`),
			why:      "no identity",
		},
		"another account's": {
			identity: allowSend, owner: "999999999999",
			why: "no resource-based policy allows",
		},
		"another account lets us": {
			identity: allowSend, owner: "999999999999", resource: queuePolicy("Allow", toAccount), want: true,
		},
		"another account, not ours": {
			owner:    "999999999999",
			resource: queuePolicy("Allow", toRole), why: "no identity",
		},
	} {
		p := &Policies{}
		if c.identity != "" {
			p.Identity = []*Document{mustParse(t, Identity, c.identity)}
		}
		for text, into := range map[string]**Document{c.boundary: &p.Boundary, c.session: &p.Session} {
			if text != "" {
				*into = mustParse(t, Identity, text)
			}
		}
		if c.boundary != "" && c.boundary == c.session {
			t.Fatalf("%s: the same document twice", name)
		}
		if c.resource != "" {
			p.Resource = mustParse(t, Resource, c.resource)
		}
		got := decide(t, p, &Request{Action: "sqs:SendMessage", Resource: queue, Principal: worker(), Owner: c.owner})
		if got.Allowed != c.want || !strings.Contains(got.Why, c.why) {
			t.Errorf("%s: got %+v, want %t and %q", name, got, c.want, c.why)
		}
	}
}

// TestWhyNot wants an explanation from which one sees what is missing.
func TestWhyNot(t *testing.T) {
	t.Parallel()
	p := &Policies{Identity: []*Document{mustParse(t, Identity, conditional(`{"StringEquals":{"aws:a":"x"}}`))}}
	got := decide(t, p, &Request{
		Action: "sqs:SendMessage", Resource: queue, Principal: worker(), Context: map[string][]string{"aws:a": {"y"}},
	})
	const want = `because no identity-based policy allows the sqs:SendMessage action ` +
		`(statement S of doc.json: StringEquals aws:a wants ["x"], got ["y"])`
	if got.Allowed || got.Why != want {
		t.Errorf("got %+v, want %s", got, want)
	}
}

func TestTrust(t *testing.T) {
	t.Parallel()
	doc := mustParse(t, Trust, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["sts:AssumeRole"],`+
		`"Principal":{"Service":"ec2.amazonaws.com"}}]}`)
	for service, want := range map[string]bool{"ec2.amazonaws.com": true, "lambda.amazonaws.com": false} {
		r := &Request{Action: "sts:AssumeRole", Resource: role, Principal: Principal{Service: service}}
		if got := decide(t, &Policies{Resource: doc}, r); got.Allowed != want {
			t.Errorf("%s: got %+v, want %t", service, got, want)
		}
	}
}

func TestSeveralValuesNeedASetOperator(t *testing.T) {
	t.Parallel()
	p := &Policies{Identity: []*Document{mustParse(t, Identity, conditional(`{"StringEquals":{"aws:TagKeys":"x"}}`))}}
	_, err := Evaluate(p, &Request{
		Action: "sqs:SendMessage", Resource: queue, Principal: worker(),
		Context: map[string][]string{"aws:TagKeys": {"x", "y"}},
	})
	if err == nil || !strings.Contains(err.Error(), "ForAllValues or ForAnyValue") {
		t.Errorf("got %v, want that the operator is asked for a set", err)
	}
}
