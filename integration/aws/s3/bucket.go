package s3

import (
	"encoding/xml"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"cloudmaster/integration/aws/call"
)

// New buckets encrypt objects and are closed to the public. Sources: S3 User Guide, "Setting default server-side
// encryption behavior"; "Blocking public access to your Amazon S3 storage".
const (
	newEncryption = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>" +
		"<SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>" +
		"</ServerSideEncryptionConfiguration>"
	newBlock = "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls>" +
		"<IgnorePublicAcls>true</IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy>" +
		"<RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>"
)

func newBucket(owner, region string, now time.Time) *bucket {
	return &bucket{
		owner: owner, region: region, made: now, objects: make(map[string]object),
		config: map[string]string{"encryption": newEncryption, "publicAccessBlock": newBlock},
	}
}

// usEast1 is the region that is not named as a location: it is the default, and was there before there were others.
const usEast1 = "us-east-1"

// createBucket makes a bucket in the region for which the request is signed. Source: S3 API Reference, CreateBucket.
func (f *Fake) createBucket(in *request) (*answer, error) {
	var config struct {
		Location string `xml:"LocationConstraint"`
	}
	if len(in.body) > 0 {
		if err := xml.Unmarshal(in.body, &config); err != nil {
			return nil, malformed(err)
		}
	}
	switch {
	case config.Location == usEast1:
		return nil, call.Errorf("InvalidLocationConstraint", "The specified location-constraint is not valid")
	case config.Location == "" && in.Region != usEast1, config.Location != "" && config.Location != in.Region:
		return nil, call.Errorf("IllegalLocationConstraintException", "The %s location constraint is incompatible for "+
			"the region specific endpoint this request was sent to.", config.Location)
	}
	made := &answer{status: http.StatusOK, header: http.Header{"Location": {"/" + in.bucket}}}
	b := f.buckets[in.bucket]
	switch {
	case b == nil:
		f.buckets[in.bucket] = newBucket(in.Principal.Account, in.Region, in.Now)
		return made, nil
	case b.owner != in.Principal.Account:
		return nil, &call.Error{
			Status: http.StatusConflict, Code: "BucketAlreadyExists",
			Message: "The requested bucket name is not available. The bucket namespace is shared by all users of the " +
				"system. Please select a different name and try again.",
		}
	case in.Region == usEast1 && b.region == usEast1: // as ever
		return made, nil
	}
	return nil, &call.Error{
		Status: http.StatusConflict, Code: "BucketAlreadyOwnedByYou",
		Message: "Your previous request to create the named bucket succeeded and you already own it.",
	}
}

func malformed(err error) error {
	return call.Errorf("MalformedXML", "The XML you provided was not well-formed: %v", err)
}

func (f *Fake) headBucket(in *request) (*answer, error) {
	b, err := f.find(in)
	if err != nil {
		return nil, err
	}
	return &answer{status: http.StatusOK, header: http.Header{"X-Amz-Bucket-Region": {b.region}}}, nil
}

func (f *Fake) deleteBucket(in *request) (*answer, error) {
	b, err := f.find(in)
	if err != nil {
		return nil, err
	}
	if len(b.objects) > 0 {
		return nil, &call.Error{
			Status: http.StatusConflict, Code: "BucketNotEmpty", Message: "The bucket you tried to delete is not empty",
		}
	}
	delete(f.buckets, in.bucket)
	return &answer{status: http.StatusNoContent}, nil
}

// getConfig reads a setting of a bucket.
func getConfig(name, right, sub, code, text string) *operation {
	return &operation{name: name, rights: []string{right}, do: func(f *Fake, in *request) (*answer, error) {
		b, err := f.find(in)
		if err != nil {
			return nil, err
		}
		doc, has := b.config[sub]
		if !has {
			return nil, &call.Error{Status: http.StatusNotFound, Code: code, Message: text}
		}
		return document([]byte(doc)), nil
	}}
}

// putConfig writes a setting of a bucket.
func putConfig(name, right, sub string, status int) *operation {
	return &operation{name: name, rights: []string{right}, do: func(f *Fake, in *request) (*answer, error) {
		b, err := f.find(in)
		if err != nil {
			return nil, err
		}
		if err := xml.Unmarshal(in.body, &struct{}{}); err != nil {
			return nil, malformed(err)
		}
		b.config[sub] = string(in.body)
		return &answer{status: status}, nil
	}}
}

func document(body []byte) *answer {
	return &answer{status: http.StatusOK, header: http.Header{"Content-Type": {"application/xml"}}, body: body}
}

type listItem struct {
	Key     string `xml:"Key"`
	Version string `xml:"VersionId,omitempty"`
	Latest  string `xml:"IsLatest,omitempty"`
	Changed string `xml:"LastModified"`
	Tag     string `xml:"ETag"`
	Size    int    `xml:"Size"`
}

// objectsPage is a page of ListObjectsV2.
type objectsPage struct {
	XMLName   xml.Name   `xml:"ListBucketResult"`
	Name      string     `xml:"Name"`
	Prefix    string     `xml:"Prefix"`
	Count     int        `xml:"KeyCount"`
	Truncated bool       `xml:"IsTruncated"`
	Next      string     `xml:"NextContinuationToken,omitempty"`
	Contents  []listItem `xml:"Contents"`
}

// versionsPage is a page of ListObjectVersions.
type versionsPage struct {
	XMLName     xml.Name   `xml:"ListVersionsResult"`
	Name        string     `xml:"Name"`
	Truncated   bool       `xml:"IsTruncated"`
	NextKey     string     `xml:"NextKeyMarker,omitempty"`
	NextVersion string     `xml:"NextVersionIdMarker,omitempty"`
	Versions    []listItem `xml:"Version"`
}

// mostKeys is how many objects a page has at most. Source: S3 API Reference, ListObjectsV2.
const mostKeys = 1000

// keys returns the page of a bucket's keys behind one of them, and whether more follow.
func (b *bucket) keys(in *request, after string) (page []string, more bool, err error) {
	query, size := in.http.URL.Query(), mostKeys
	if text := query.Get("max-keys"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return nil, false, call.Errorf("InvalidArgument", "max-keys %q is not a number", text)
		}
		size = min(size, n)
	}
	prefix := query.Get("prefix")
	for _, key := range slices.Sorted(maps.Keys(b.objects)) {
		if key > after && len(key) >= len(prefix) && key[:len(prefix)] == prefix {
			page = append(page, key)
		}
	}
	if len(page) > size {
		return page[:size], true, nil
	}
	return page, false, nil
}

func (b *bucket) item(key string) listItem {
	o := b.objects[key]
	return listItem{Key: key, Changed: o.changed.UTC().Format(time.RFC3339), Tag: o.tag, Size: len(o.data)}
}

func (f *Fake) listObjects(in *request) (*answer, error) {
	b, err := f.find(in)
	if err != nil {
		return nil, err
	}
	query := in.http.URL.Query()
	keys, more, err := b.keys(in, max(query.Get("continuation-token"), query.Get("start-after")))
	if err != nil {
		return nil, err
	}
	out := objectsPage{Name: in.bucket, Prefix: query.Get("prefix"), Count: len(keys), Truncated: more}
	for _, key := range keys {
		out.Contents = append(out.Contents, b.item(key))
		if more {
			out.Next = key
		}
	}
	return encoded(out)
}

func (f *Fake) listVersions(in *request) (*answer, error) {
	b, err := f.find(in)
	if err != nil {
		return nil, err
	}
	keys, more, err := b.keys(in, in.http.URL.Query().Get("key-marker"))
	if err != nil {
		return nil, err
	}
	out := versionsPage{Name: in.bucket, Truncated: more}
	for _, key := range keys {
		item := b.item(key)
		item.Version, item.Latest = "null", "true"
		out.Versions = append(out.Versions, item)
		if more {
			out.NextKey, out.NextVersion = key, "null"
		}
	}
	return encoded(out)
}

func encoded(doc any) (*answer, error) {
	body, err := xml.Marshal(doc)
	if err != nil {
		return nil, err
	}
	return document(body), nil
}
