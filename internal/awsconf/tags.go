package awsconf

// The tags on everything that setup makes. Teardown removes only what has them.
const (
	TagDeployment = "cloudmaster:deployment"
	TagMadeBy     = "cloudmaster:made-by"
	MadeBySetup   = "setup"
	// TagRegion is on what is in IAM, which is one for all regions: the region that it was made for.
	TagRegion = "cloudmaster:region"
)

// SetupTags are the tags of what is made for a deployment.
func SetupTags(deployment string) map[string]string {
	return map[string]string{TagDeployment: deployment, TagMadeBy: MadeBySetup}
}

// SetupTagsIn are the tags of what is made in IAM for a deployment in a region.
func SetupTagsIn(deployment, region string) map[string]string {
	tags := SetupTags(deployment)
	tags[TagRegion] = region
	return tags
}

// Ours reports whether tags say that something was made for this deployment by setup.
func Ours(tags map[string]string, deployment string) bool {
	owner, made := Owner(tags)
	return made && owner == deployment
}

// Owner returns the deployment that setup made something for; false if setup did not.
func Owner(tags map[string]string) (deployment string, made bool) {
	return tags[TagDeployment], tags[TagMadeBy] == MadeBySetup
}
