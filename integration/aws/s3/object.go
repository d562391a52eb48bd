package s3

import (
	"crypto/md5" //nolint:gosec // S3's entity tags are sums of this kind
	"encoding/xml"
	"fmt"
	"net/http"
	"strconv"

	"cloudmaster/integration/aws/call"
)

// tagOf is the entity tag of an object that is encrypted with S3's own keys and uploaded at once. Source: S3 API
// Reference, Object.
func tagOf(data []byte) string {
	return fmt.Sprintf(`"%x"`, md5.Sum(data)) //nolint:gosec // see the import
}

// getObject serves GET and HEAD. Who may not list the bucket does not learn that an object is missing. Source: S3 API
// Reference, GetObject.
func (f *Fake) getObject(in *request) (*answer, error) {
	b, err := f.find(in)
	if err != nil {
		return nil, err
	}
	o, has := b.objects[in.key]
	if !has {
		if err := in.may("s3:ListBucket", in.resource(false)); err != nil {
			return nil, err
		}
		return nil, noKey()
	}
	header := http.Header{
		"Etag": {o.tag}, "Last-Modified": {o.changed.UTC().Format(http.TimeFormat)},
		"Content-Length": {strconv.Itoa(len(o.data))}, "Content-Type": {"binary/octet-stream"},
	}
	switch have := in.http.Header; {
	case have.Get("If-Match") != "" && have.Get("If-Match") != o.tag:
		return nil, failed()
	case have.Get("If-None-Match") == o.tag:
		header.Del("Content-Length")
		return &answer{status: http.StatusNotModified, header: header}, nil
	}
	return &answer{status: http.StatusOK, header: header, body: o.data}, nil
}

func noKey() error {
	return &call.Error{
		Status: http.StatusNotFound, Code: "NoSuchKey", Message: "The specified key does not exist.",
	}
}

func failed() error {
	return &call.Error{
		Status: http.StatusPreconditionFailed, Code: "PreconditionFailed",
		Message: "At least one of the pre-conditions you specified did not hold",
	}
}

// putObject writes an object, if its conditions hold. A write that expects a certain object needs the right to read it.
// Source: S3 User Guide, "How to prevent object overwrites with conditional writes".
func (f *Fake) putObject(in *request) (*answer, error) {
	b, err := f.find(in)
	if err != nil {
		return nil, err
	}
	o, has := b.objects[in.key]
	match, none := in.http.Header.Get("If-Match"), in.http.Header.Get("If-None-Match")
	if match != "" {
		if err := in.may("s3:GetObject", in.resource(true)); err != nil {
			return nil, err
		}
	}
	switch {
	case none != "" && none != "*":
		return nil, &call.Error{
			Status: http.StatusNotImplemented, Code: "NotImplemented",
			Message: "If-None-Match takes only * when an object is written",
		}
	case none == "*" && has, match != "" && has && match != o.tag:
		return nil, failed()
	case match != "" && !has:
		return nil, noKey()
	}
	o = object{data: in.body, tag: tagOf(in.body), changed: in.Now}
	b.objects[in.key] = o
	return &answer{status: http.StatusOK, header: http.Header{"Etag": {o.tag}}}, nil
}

// deleteObject removes an object. It is not an error if there is none.
func (f *Fake) deleteObject(in *request) (*answer, error) {
	b, err := f.find(in)
	if err != nil {
		return nil, err
	}
	delete(b.objects, in.key)
	return &answer{status: http.StatusNoContent}, nil
}

type deletedPage struct {
	XMLName xml.Name       `xml:"DeleteResult"`
	Deleted []deletedItem  `xml:"Deleted"`
	Errors  []deletedError `xml:"Error"`
}

type deletedItem struct {
	Key string `xml:"Key"`
}

type deletedError struct {
	Key     string `xml:"Key"`
	Code    string `xml:"Code"`
	Message string `xml:"Message"`
}

// deleteObjects removes up to a thousand objects, each of which must be allowed. Source: S3 API Reference,
// DeleteObjects.
func (f *Fake) deleteObjects(in *request) (*answer, error) {
	b, err := f.find(in)
	if err != nil {
		return nil, err
	}
	var ask struct {
		Objects []struct {
			Key     string `xml:"Key"`
			Version string `xml:"VersionId"`
		} `xml:"Object"`
		Quiet bool `xml:"Quiet"`
	}
	if err := xml.Unmarshal(in.body, &ask); err != nil {
		return nil, malformed(err)
	}
	if len(ask.Objects) > mostKeys {
		return nil, malformed(fmt.Errorf("%d objects, the most is %d", len(ask.Objects), mostKeys))
	}
	var out deletedPage
	for _, o := range ask.Objects {
		right := "s3:DeleteObject"
		if o.Version != "" {
			right = "s3:DeleteObjectVersion"
		}
		if err := in.may(right, in.resource(false)+"/"+o.Key); err != nil {
			e := asError(err)
			out.Errors = append(out.Errors, deletedError{Key: o.Key, Code: e.Code, Message: e.Message})
			continue
		}
		delete(b.objects, o.Key)
		if !ask.Quiet {
			out.Deleted = append(out.Deleted, deletedItem{Key: o.Key})
		}
	}
	return encoded(out)
}
