package awssetup

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"cloudmaster/internal/activeset"
	"cloudmaster/services/controller/internal/config"
)

// The most characters without white space that IAM takes in a managed policy, and in all inline policies of a role
// together. Source: IAM User Guide, "IAM and AWS STS quotas".
const (
	managedLimit = 6144
	inlineLimit  = 10240
)

// size is the length of a document as IAM counts it.
func (d Document) size() int { return utf8.RuneCountInString(d.compact()) }

// tooLarge says what to do with a document that is no managed policy; empty if it can be one.
func (d Document) tooLarge(name string) string {
	const other = ", or let queues, roles and images have their default names, which one pattern can stand for"
	size := fmt.Sprintf("IAM policy %s has %d characters without white space, and IAM takes %d in a managed policy",
		name, d.size(), managedLimit)
	switch n := d.size(); {
	case n > inlineLimit:
		return size + fmt.Sprintf(" and %d in the inline policies of a role: divide its statements among several "+
			"managed policies", inlineLimit) + other
	case n > managedLimit:
		return size + fmt.Sprintf(": put it into a role as an inline policy (aws iam put-role-policy), of which a "+
			"role takes %d", inlineLimit) + other
	}
	return ""
}

// fit returns the document as it is if IAM takes it as a managed policy. Otherwise patterns stand for the names of
// things of many pools, which grants more: all things of the deployment with such names, also those to come.
func (p *Policies) fit(d Document) Document {
	if d.size() <= managedLimit {
		return d
	}
	patterns := p.patterns()
	out := document(slices.Clone(d.Statement)...)
	for i := range out.Statement {
		s := &out.Statement[i]
		var short []string
		for _, arn := range s.Resource {
			if pattern, ok := patterns[arn]; ok {
				arn = pattern
			}
			if !slices.Contains(short, arn) {
				short = append(short, arn)
			}
		}
		s.Resource = short
	}
	return out
}

// patterns are what can stand for the ARNs of pools' things. Without the deployment in them, names are those of others,
// too, and have none. Nor have the deployment's own queues: one pattern for them would let whoever sends hints send
// events, too, and would be that of all deployments whose names begin like this one's.
func (p *Policies) patterns() map[string]string {
	out := make(map[string]string)
	for _, pl := range pools(p.cfg) {
		out[p.bucket+"/"+activeset.Key(pl.Name)] = p.bucket + "/" + activeset.Key("*")
		for _, q := range p.withDead(pl) {
			if pattern, ok := p.queuePattern(pl, q); ok {
				out[q] = pattern
			}
		}
		region := p.regionOf(pl.Cloud)
		out[p.iam("role/"+ownedRole(p.cfg, region, pl.Name))] = p.iam("role/" + ownedRoles(p.cfg, region) + "*")
	}
	return out
}

// queuePattern is what stands for a queue that is named as by default, POOL-USE-DEPLOYMENT; false if it is not.
func (p *Policies) queuePattern(pl *config.Pool, arn string) (string, bool) {
	begin := p.queue("")
	rest, ok := strings.CutPrefix(arn, begin+string(pl.Name)+"-")
	if !ok || p.cfg.Deployment == "" || !strings.Contains(rest, "-"+p.cfg.Deployment) {
		return "", false
	}
	return begin + "*-" + rest, true
}
