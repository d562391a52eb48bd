package awssetup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/queue/sqsqueue"
	"cloudmaster/services/controller/internal/config"
)

// eventService is EventBridge as a principal. Source: EventBridge User Guide, "Using resource-based policies for Amazon
// EventBridge", permissions of SQS. It is the same in all partitions (see ec2Everywhere for the source).
const eventService = "events.amazonaws.com"

// targetID names the only target of each rule.
const targetID = "controller"

// longestRule is how many characters the name of a rule may have (EventBridge API Reference, PutRule).
const longestRule = 64

// codeNoRule is EventBridge's error code for a rule that does not exist.
const codeNoRule = "ResourceNotFoundException"

// eventRule is what setup wants of EventBridge.
type eventRule struct {
	name, arn, pattern string
}

// events returns the deployment's queue for events; false if it has none.
func events(cfg *config.Config) (config.Queue, bool) {
	for _, q := range cfg.Shared() {
		if q.Use == config.Events {
			return q, true
		}
	}
	return config.Queue{}, false
}

// rules are those that send events of EC2 to the deployment's queue. There are three, because a rule that joins them
// would need a pattern that few people can read.
func (p *Policies) rules() []eventRule {
	q, ok := events(p.cfg)
	if !ok {
		return nil
	}
	var out []eventRule
	for _, f := range ec2cloud.EventPatterns() {
		name := q.Name + "-" + f.Name
		out = append(out, eventRule{name: name, arn: p.rule(name), pattern: f.Pattern})
	}
	return out
}

// checkRules refuses a deployment whose name makes those of rules longer than EventBridge takes.
func checkRules(cfg *config.Config) error {
	q, ok := events(cfg)
	if !ok {
		return nil
	}
	for _, f := range ec2cloud.EventPatterns() {
		if over := len(q.Name+"-"+f.Name) - longestRule; over > 0 {
			return fmt.Errorf("deployment: %s is %d characters too long for the name of an EventBridge rule (%s-%s): "+
				"choose a shorter one", cfg.Deployment, over, q.Name, f.Name)
		}
	}
	return nil
}

// rule returns the ARN of a rule of EventBridge.
func (p *Policies) rule(name string) string {
	return "arn:" + p.partition + ":events:" + p.region + ":" + p.account + ":rule/" + name
}

// eventRights is the document that lets EventBridge send to the queue for events, by our rules and from our account
// alone. Nobody else is let in by it.
func (p *Policies) eventRights() Document {
	q, _ := events(p.cfg)
	var arns Values
	for _, r := range p.rules() {
		arns = append(arns, r.arn)
	}
	return document(Statement{
		Sid: "EventsOfOurRules", Effect: "Allow", Principal: map[string]string{"Service": eventService},
		Action: []string{"sqs:SendMessage"}, Resource: []string{p.queue(q.Name)},
		Condition: Condition{
			"ArnEquals":    {"aws:SourceArn": arns},
			"StringEquals": {"aws:SourceAccount": {p.account}},
		},
	})
}

// planEvents looks at who may send to the queue for events, and at the rules that have EventBridge do so.
func (s *site) planEvents(ctx context.Context, p *plan) error {
	q, ok := events(s.cfg)
	if !ok {
		return nil
	}
	if err := s.planRights(ctx, p, q); err != nil {
		return err
	}
	client := eventbridge.NewFromConfig(*s.queues)
	for _, r := range s.policies.rules() {
		if err := s.planRule(ctx, p, client, r); err != nil {
			return err
		}
	}
	return nil
}

func (s *site) planRights(ctx context.Context, p *plan, q config.Queue) error {
	have, found, err := sqsqueue.Rights(ctx, *s.queues, q.Name)
	if err != nil {
		return err
	}
	want := s.policies.eventRights().compact()
	set := func(ctx context.Context) error { return sqsqueue.SetRights(ctx, *s.queues, q.Name, want) }
	t := thing{verb: keep, kind: kindRights, name: q.Name}
	switch {
	case found.Exists && !awsconf.Ours(found.Tags, s.cfg.Deployment):
		t.verb, t.note = leave, notOurs // who owns the queue says who may send to it
	case have == "":
		t.verb, t.do = create, set
	case !sameJSON(have, want):
		t.verb, t.note, t.do = change, "it does not let in what it should, or more", set
	}
	p.add(t)
	return nil
}

// sameJSON reports whether two documents say the same, however they are written.
func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

// ruleState is what EventBridge has under a rule's name.
type ruleState struct {
	exists  bool
	tags    map[string]string
	pattern string
	enabled bool
	targets []types.Target
}

func lookAtRule(ctx context.Context, client *eventbridge.Client, r eventRule) (ruleState, error) {
	found, err := client.DescribeRule(ctx, &eventbridge.DescribeRuleInput{Name: &r.name})
	if awsconf.Code(err) == codeNoRule {
		return ruleState{}, nil
	}
	if err != nil {
		return ruleState{}, fmt.Errorf("look at rule %s: %w", r.name, err)
	}
	tags, err := client.ListTagsForResource(ctx, &eventbridge.ListTagsForResourceInput{ResourceARN: found.Arn})
	if err != nil {
		return ruleState{}, fmt.Errorf("look at tags of rule %s: %w", r.name, err)
	}
	targets, err := client.ListTargetsByRule(ctx, &eventbridge.ListTargetsByRuleInput{Rule: &r.name})
	if err != nil {
		return ruleState{}, fmt.Errorf("look at targets of rule %s: %w", r.name, err)
	}
	have := ruleState{
		exists: true, tags: make(map[string]string), pattern: aws.ToString(found.EventPattern),
		enabled: found.State == types.RuleStateEnabled, targets: targets.Targets,
	}
	for _, t := range tags.Tags {
		have.tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return have, nil
}

// planRule looks at one rule.
func (s *site) planRule(ctx context.Context, p *plan, client *eventbridge.Client, r eventRule) error {
	have, err := lookAtRule(ctx, client, r)
	if err != nil || p.refuseOthers(kindRule, r.name, s.cfg.Deployment, have.tags) {
		return err
	}
	q, _ := events(s.cfg)
	queue := s.policies.queue(q.Name)
	t := thing{kind: kindRule, name: r.name}
	t.do = func(ctx context.Context) error { return s.makeRule(ctx, client, r, queue) }
	differs := have.differs(r, queue)
	switch {
	case !have.exists:
		t.verb = create
	case !awsconf.Ours(have.tags, s.cfg.Deployment) && differs != "":
		p.refuse("event rule %s was not made by setup for this deployment, and does not fit: %s; rename or delete it, "+
			"or rename this deployment", r.name, differs)
		return nil
	case !awsconf.Ours(have.tags, s.cfg.Deployment):
		t.verb, t.note, t.do = use, notOurs, nil
	case differs != "":
		t.verb, t.note = change, differs
	default:
		t.verb, t.do = keep, nil
	}
	p.add(t)
	return nil
}

// differs says what of a rule is not as it should be; empty if nothing is. Other targets that an operator added stay.
func (have *ruleState) differs(r eventRule, queue string) string {
	var out []string
	if !sameJSON(have.pattern, r.pattern) {
		out = append(out, "its pattern is another one")
	}
	if !have.enabled {
		out = append(out, "it is disabled")
	}
	aimed := false
	for i := range have.targets {
		aimed = aimed || aws.ToString(have.targets[i].Arn) == queue && aws.ToString(have.targets[i].Id) == targetID
	}
	if !aimed {
		out = append(out, "it does not send to the queue")
	}
	return strings.Join(out, ", ")
}

// makeRule makes or corrects a rule. It may be called again after a failure at any point.
func (s *site) makeRule(ctx context.Context, client *eventbridge.Client, r eventRule, queue string) error {
	var tags []types.Tag
	for key, value := range awsconf.SetupTags(s.cfg.Deployment) {
		tags = append(tags, types.Tag{Key: aws.String(key), Value: aws.String(value)})
	}
	_, err := client.PutRule(ctx, &eventbridge.PutRuleInput{
		Name: &r.name, EventPattern: &r.pattern, State: types.RuleStateEnabled, Tags: tags,
		Description: aws.String("tells the controller of CloudMaster what happens to its instances"),
	})
	if err != nil {
		return err
	}
	put, err := client.PutTargets(ctx, &eventbridge.PutTargetsInput{
		Rule: &r.name, Targets: []types.Target{{Id: aws.String(targetID), Arn: &queue}},
	})
	if err != nil {
		return err
	}
	var errs []error
	for i := range put.FailedEntries { // the call as a whole succeeds nevertheless
		e := &put.FailedEntries[i]
		errs = append(errs, fmt.Errorf("send to %s: %s (%s)", queue, aws.ToString(e.ErrorMessage),
			aws.ToString(e.ErrorCode)))
	}
	return errors.Join(errs...)
}

// findRules looks at the rules of the deployment.
func (s *site) findRules(ctx context.Context, p *plan) error {
	client := eventbridge.NewFromConfig(*s.queues)
	for _, r := range s.policies.rules() {
		have, err := lookAtRule(ctx, client, r)
		if err != nil {
			return err
		}
		t := thing{verb: leave, kind: kindRule, name: r.name, note: notOurs}
		switch {
		case !have.exists:
			continue
		case awsconf.Ours(have.tags, s.cfg.Deployment):
			t.verb, t.note = remove, ""
			t.do = func(ctx context.Context) error { return removeRule(ctx, client, r, have.targets) }
		}
		p.add(t)
	}
	return nil
}

// removeRule removes a rule with all its targets, also those that an operator added: a rule with targets cannot be
// removed.
func removeRule(ctx context.Context, client *eventbridge.Client, r eventRule, targets []types.Target) error {
	ids := make([]string, 0, len(targets))
	for i := range targets {
		ids = append(ids, aws.ToString(targets[i].Id))
	}
	if len(ids) > 0 {
		out, err := client.RemoveTargets(ctx, &eventbridge.RemoveTargetsInput{Rule: &r.name, Ids: ids})
		switch {
		case awsconf.Code(err) == codeNoRule:
			return nil
		case err != nil:
			return err
		case out.FailedEntryCount > 0:
			return fmt.Errorf("%d of its targets could not be removed: %s", out.FailedEntryCount,
				aws.ToString(out.FailedEntries[0].ErrorMessage))
		}
	}
	_, err := client.DeleteRule(ctx, &eventbridge.DeleteRuleInput{Name: &r.name})
	if awsconf.Code(err) == codeNoRule {
		return nil
	}
	return err
}
