package s3

import "net/http"

// operation returns what a request asks for; nil if the fake does not have it. The rights are those that the S3 User
// Guide names in "Required permissions for Amazon S3 API operations".
func (in *request) operation() *operation {
	if in.bucket == "" {
		return nil
	}
	if in.key != "" {
		return in.onObject()
	}
	for sub, ops := range configOperations {
		if in.http.URL.Query().Has(sub) {
			return ops[in.http.Method]
		}
	}
	return in.onBucket()
}

func (in *request) onObject() *operation {
	switch in.http.Method {
	case http.MethodGet:
		return &operation{"GetObject", []string{"s3:GetObject"}, true, (*Fake).getObject}
	case http.MethodHead:
		return &operation{"HeadObject", []string{"s3:GetObject"}, true, (*Fake).getObject}
	case http.MethodPut:
		return &operation{"PutObject", []string{"s3:PutObject"}, true, (*Fake).putObject}
	case http.MethodDelete:
		right := "s3:DeleteObject"
		if in.http.URL.Query().Has("versionId") {
			right = "s3:DeleteObjectVersion"
		}
		return &operation{"DeleteObject", []string{right}, true, (*Fake).deleteObject}
	}
	return nil
}

func (in *request) onBucket() *operation {
	query := in.http.URL.Query()
	switch {
	case in.http.Method == http.MethodPut:
		rights := []string{"s3:CreateBucket"}
		if in.http.Header.Get("X-Amz-Object-Ownership") != "" {
			rights = append(rights, "s3:PutBucketOwnershipControls")
		}
		return &operation{"CreateBucket", rights, false, (*Fake).createBucket}
	case in.http.Method == http.MethodHead:
		return &operation{"HeadBucket", []string{"s3:ListBucket"}, false, (*Fake).headBucket}
	case in.http.Method == http.MethodDelete:
		return &operation{"DeleteBucket", []string{"s3:DeleteBucket"}, false, (*Fake).deleteBucket}
	case in.http.Method == http.MethodPost && query.Has("delete"):
		return &operation{"DeleteObjects", nil, false, (*Fake).deleteObjects}
	case in.http.Method == http.MethodGet && query.Has("versions"):
		return &operation{"ListObjectVersions", []string{"s3:ListBucketVersions"}, false, (*Fake).listVersions}
	case in.http.Method == http.MethodGet && query.Get("list-type") == "2":
		return &operation{"ListObjectsV2", []string{"s3:ListBucket"}, false, (*Fake).listObjects}
	}
	return nil
}

// configOperations read and write the settings of buckets, which are documents that the fake keeps as they are, by
// their sub-resources and HTTP's methods.
var configOperations = map[string]map[string]*operation{
	"tagging": {
		http.MethodGet: getConfig("GetBucketTagging", "s3:GetBucketTagging", "tagging",
			"NoSuchTagSet", "The TagSet does not exist"),
		http.MethodPut: putConfig("PutBucketTagging", "s3:PutBucketTagging", "tagging", http.StatusNoContent),
	},
	"encryption": {
		http.MethodGet: getConfig("GetBucketEncryption", "s3:GetEncryptionConfiguration", "encryption",
			"ServerSideEncryptionConfigurationNotFoundError",
			"The server side encryption configuration was not found"),
		http.MethodPut: putConfig("PutBucketEncryption", "s3:PutEncryptionConfiguration", "encryption", http.StatusOK),
	},
	"publicAccessBlock": {
		http.MethodGet: getConfig("GetPublicAccessBlock", "s3:GetBucketPublicAccessBlock", "publicAccessBlock",
			"NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found"),
		http.MethodPut: putConfig("PutPublicAccessBlock", "s3:PutBucketPublicAccessBlock", "publicAccessBlock",
			http.StatusOK),
	},
}
