package events

import (
	"maps"
	"regexp"
	"slices"

	"cloudmaster/integration/aws/call"
)

// nameForm is what rules may be called. Source: EventBridge API Reference, PutRule.
var nameForm = regexp.MustCompile(`^[.\-_A-Za-z0-9]{1,64}$`)

// enabled is the state of a rule that is in force.
const enabled = "ENABLED"

func describeRule(r *request) (any, *call.Error) {
	have, bad := r.rule("DescribeRule", nil)
	if bad != nil {
		return nil, bad
	}
	return map[string]string{
		"Name": have.name, "Arn": have.arn, "EventPattern": have.text, "State": have.state, "EventBusName": "default",
	}, nil
}

func listTags(r *request) (any, *call.Error) {
	have, bad := r.rule("ListTagsForResource", nil)
	if bad != nil {
		return nil, bad
	}
	tags := make([]tag, 0, len(have.tags))
	for _, key := range slices.Sorted(maps.Keys(have.tags)) {
		tags = append(tags, tag{key, have.tags[key]})
	}
	return map[string]any{"Tags": tags}, nil
}

func listTargets(r *request) (any, *call.Error) {
	have, bad := r.rule("ListTargetsByRule", nil)
	if bad != nil {
		return nil, bad
	}
	targets := make([]target, 0, len(have.targets))
	for _, id := range slices.Sorted(maps.Keys(have.targets)) {
		targets = append(targets, target{id, have.targets[id]})
	}
	return map[string]any{"Targets": targets}, nil
}

// putRule makes a rule, or changes one. Tags are taken for a new rule only.
func putRule(r *request) (any, *call.Error) {
	tags := make(map[string]string)
	for _, t := range r.in.Tags {
		tags[t.Key] = t.Value
	}
	context := call.Context{}
	context.SetRequestTags(tags)
	if bad := r.may("PutRule", context); bad != nil {
		return nil, bad
	}
	if len(tags) > 0 {
		if bad := r.may("TagResource", context); bad != nil {
			return nil, bad
		}
	}
	if !nameForm.MatchString(r.in.Name) {
		return nil, call.Errorf("ValidationException", "%q is no name for a rule: 1 to 64 of . - _ A-Z a-z 0-9",
			r.in.Name)
	}
	p, err := readPattern(r.in.EventPattern)
	if err != nil {
		return nil, call.Errorf("InvalidEventPatternException", "Event pattern is not valid. Reason: %v", err)
	}
	have := r.s.rules[r.arn()]
	if have == nil {
		have = &rule{name: r.in.Name, arn: r.arn(), tags: tags, targets: make(map[string]string)}
		r.s.rules[have.arn] = have
	}
	have.text, have.pattern, have.state = r.in.EventPattern, p, r.in.State
	if have.state == "" {
		have.state = enabled
	}
	return map[string]string{"RuleArn": have.arn}, nil
}

// mostTargets is how many targets a rule may have. Source: EventBridge User Guide, "Amazon EventBridge quotas".
const mostTargets = 5

func putTargets(r *request) (any, *call.Error) {
	context := call.Context{}
	for _, t := range r.in.Targets {
		context["events:TargetArn"] = append(context["events:TargetArn"], t.Arn)
	}
	have, bad := r.rule("PutTargets", context)
	if bad != nil {
		return nil, bad
	}
	after := maps.Clone(have.targets)
	for _, t := range r.in.Targets {
		after[t.ID] = t.Arn
	}
	if len(after) > mostTargets {
		return nil, call.Errorf("LimitExceededException", "The requested resource exceeds the maximum number allowed.")
	}
	have.targets = after
	return noFailures(), nil
}

func removeTargets(r *request) (any, *call.Error) {
	have, bad := r.rule("RemoveTargets", nil)
	if bad != nil {
		return nil, bad
	}
	for _, id := range r.in.Ids {
		delete(have.targets, id)
	}
	return noFailures(), nil
}

func noFailures() any { return map[string]any{"FailedEntryCount": 0, "FailedEntries": []string{}} }

// deleteRule deletes a rule. One that does not exist is no error, and one with targets is.
func deleteRule(r *request) (any, *call.Error) {
	if bad := r.may("DeleteRule", nil); bad != nil {
		return nil, bad
	}
	have := r.s.rules[r.arn()]
	if have != nil && len(have.targets) > 0 {
		return nil, call.Errorf("ValidationException", "Rule can't be deleted since it has targets.")
	}
	delete(r.s.rules, r.arn())
	return map[string]string{}, nil
}
