package natsblob

// ToRead returns the subjects that a program must be allowed to publish to in order to read all objects of a bucket.
func ToRead(bucket string) []string {
	return []string{"$JS.API.STREAM.INFO.KV_" + bucket, "$JS.API.STREAM.MSG.GET.KV_" + bucket}
}
