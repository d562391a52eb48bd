package sqs

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"

	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/iampolicy"
)

// queue is one queue. The service's lock guards it.
type queue struct {
	s        *Service
	where    id
	attrs    map[string]string // those that can be set
	tags     map[string]string
	policy   *iampolicy.Document
	messages []*message
	created  time.Time
	purged   time.Time
	counted  counts // what approximate numbers show
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

// recently is how long a deleted queue's name cannot be used, and how long after a purge there is no other.
const recently = time.Minute

type createInput struct {
	QueueName        string
	Attributes, Tags map[string]string
	OtherTags        map[string]string `json:"tags"` // as the SDK writes it
}

func createQueue(r *request) (any, *fault) {
	in, bad := read[createInput](r)
	if bad != nil {
		return nil, bad
	}
	if !nameForm.MatchString(in.QueueName) {
		return nil, invalid("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")
	}
	where := id{r.Region, r.Principal.Account, in.QueueName}
	tags := in.OtherTags
	if len(tags) == 0 {
		tags = in.Tags
	}
	for _, action := range []string{"CreateQueue", "TagQueue"} {
		context := call.Context{}
		context.SetRequestTags(tags)
		if action == "TagQueue" && len(tags) == 0 {
			break
		}
		if bad := r.ask(action, where, context); bad != nil {
			return nil, bad
		}
	}
	if bad := r.s.create(where, in.Attributes, tags); bad != nil {
		return nil, bad
	}
	return map[string]string{"QueueUrl": r.url(where)}, nil
}

func (s *Service) create(where id, attrs, tags map[string]string) *fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.nowLocked()
	if q := s.queues[where]; q != nil {
		for key, value := range attrs {
			if q.attribute(key) != value {
				return faultf("QueueNameExists", "QueueAlreadyExists",
					"A queue already exists with the same name and a different value for attribute %s", key)
			}
		}
		return nil
	}
	if at, ok := s.deleted[where]; ok && now.Sub(at) < recently {
		return faultf("QueueDeletedRecently", "AWS.SimpleQueueService.QueueDeletedRecently",
			"You must wait 60 seconds after deleting a queue before you can create another with the same name.")
	}
	q := &queue{s: s, where: where, attrs: defaults(), tags: maps.Clone(tags), created: now}
	if bad := q.set(attrs); bad != nil {
		return bad
	}
	s.queues[where] = q
	return nil
}

type urlInput struct{ QueueURL, QueueName, QueueOwnerAWSAccountID string }

func getQueueURL(r *request) (any, *fault) {
	in, bad := read[urlInput](r)
	if bad != nil {
		return nil, bad
	}
	where := id{r.Region, r.Principal.Account, in.QueueName}
	if in.QueueOwnerAWSAccountID != "" {
		where.account = in.QueueOwnerAWSAccountID
	}
	if bad := r.ask("GetQueueUrl", where, nil); bad != nil {
		return nil, bad
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if r.s.queues[where] == nil {
		return nil, missing()
	}
	return map[string]string{"QueueUrl": r.url(where)}, nil
}

func deleteQueue(r *request) (any, *fault) {
	in, bad := read[urlInput](r)
	if bad != nil {
		return nil, bad
	}
	return r.with("DeleteQueue", in.QueueURL, func(q *queue) (any, *fault) {
		delete(r.s.queues, q.where)
		r.s.deleted[q.where] = r.s.nowLocked()
		r.s.wakeLocked()
		return struct{}{}, nil
	})
}

func purgeQueue(r *request) (any, *fault) {
	in, bad := read[urlInput](r)
	if bad != nil {
		return nil, bad
	}
	return r.with("PurgeQueue", in.QueueURL, func(q *queue) (any, *fault) {
		now := r.s.nowLocked()
		if !q.purged.IsZero() && now.Sub(q.purged) < recently {
			return nil, faultf("PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress",
				"Only one PurgeQueue operation on %s is allowed every 60 seconds.", q.where.name)
		}
		q.purged, q.messages = now, nil
		return struct{}{}, nil
	})
}

type tagInput struct {
	QueueURL string
	Tags     map[string]string
}

func tagQueue(r *request) (any, *fault) {
	in, bad := read[tagInput](r)
	if bad != nil {
		return nil, bad
	}
	where, bad := r.named(in.QueueURL)
	if bad != nil {
		return nil, bad
	}
	context := call.Context{}
	context.SetRequestTags(in.Tags)
	if bad := r.ask("TagQueue", where, context); bad != nil {
		return nil, bad
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	q := r.s.queues[where]
	if q == nil {
		return nil, missing()
	}
	if q.tags == nil {
		q.tags = make(map[string]string)
	}
	maps.Copy(q.tags, in.Tags)
	return struct{}{}, nil
}

func listTags(r *request) (any, *fault) {
	in, bad := read[urlInput](r)
	if bad != nil {
		return nil, bad
	}
	return r.with("ListQueueTags", in.QueueURL, func(q *queue) (any, *fault) {
		return map[string]any{"Tags": maps.Clone(q.tags)}, nil
	})
}

// limit is the range of an attribute that is a number, and what it is at first.
type limit struct{ least, most, first int }

func limits() map[string]limit {
	return map[string]limit{
		"VisibilityTimeout":             {0, 43200, 30},
		"MessageRetentionPeriod":        {60, 1209600, 345600},
		"MaximumMessageSize":            {1024, 1 << 20, 1 << 20},
		"DelaySeconds":                  {0, 900, 0},
		"ReceiveMessageWaitTimeSeconds": {0, 20, 0},
	}
}

func defaults() map[string]string {
	out := map[string]string{"SqsManagedSseEnabled": "true"}
	for name, l := range limits() {
		out[name] = strconv.Itoa(l.first)
	}
	return out
}

// set changes attributes, all or none.
func (q *queue) set(attrs map[string]string) *fault {
	policy := q.policy
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		value := attrs[name]
		if l, ok := limits()[name]; ok {
			if n, err := strconv.Atoi(value); err != nil || n < l.least || n > l.most {
				return faultf("InvalidAttributeValue", "InvalidAttributeValue",
					"Invalid value for the parameter %s: %s", name, value)
			}
			continue
		}
		var bad *fault
		switch name {
		case "RedrivePolicy":
			bad = q.checkRedrive(value)
		case "Policy":
			policy, bad = q.readPolicy(value)
		case "SqsManagedSseEnabled", "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "RedriveAllowPolicy":
		default:
			bad = faultf("InvalidAttributeName", "InvalidAttributeName", "Unknown Attribute %s.", name)
		}
		if bad != nil {
			return bad
		}
	}
	maps.Copy(q.attrs, attrs)
	q.policy = policy
	return nil
}

func (q *queue) readPolicy(text string) (*iampolicy.Document, *fault) {
	if text == "" {
		return nil, nil
	}
	doc, err := iampolicy.Parse("policy of queue "+q.where.name, iampolicy.Resource, []byte(text))
	if err != nil {
		return nil, faultf("InvalidAttributeValue", "InvalidAttributeValue",
			"Invalid value for the parameter Policy: %v", err)
	}
	return doc, nil
}

// redrive says where messages go that were received too often.
type redrive struct {
	DeadLetterTargetArn string      `json:"deadLetterTargetArn"`
	MaxReceiveCount     json.Number `json:"maxReceiveCount"`
}

func (q *queue) checkRedrive(text string) *fault {
	if text == "" {
		return nil
	}
	var p redrive
	err := json.Unmarshal([]byte(text), &p)
	n, bad := p.MaxReceiveCount.Int64()
	if err != nil || bad != nil || n < 1 || n > 1000 {
		return faultf("InvalidAttributeValue", "InvalidAttributeValue", "Value %s for parameter "+
			"RedrivePolicy is invalid. Reason: Invalid value for maxReceiveCount: %s, valid values are "+
			"from 1 to 1000 both inclusive.",
			text, p.MaxReceiveCount)
	}
	if q.s.atLocked(p.DeadLetterTargetArn) == nil {
		return invalid("Value %s for parameter RedrivePolicy is invalid. "+
			"Reason: Dead letter target does not exist.", text)
	}
	return nil
}

// attribute returns one that can be set.
func (q *queue) attribute(name string) string { return q.attrs[name] }

func (q *queue) seconds(name string) time.Duration {
	n, _ := strconv.Atoi(q.attrs[name]) // was checked when it was set
	return time.Duration(n) * time.Second
}

type attributesInput struct {
	QueueURL       string
	AttributeNames []string
	Attributes     map[string]string
}

func setAttributes(r *request) (any, *fault) {
	in, bad := read[attributesInput](r)
	if bad != nil {
		return nil, bad
	}
	return r.with("SetQueueAttributes", in.QueueURL, func(q *queue) (any, *fault) {
		return struct{}{}, q.set(in.Attributes)
	})
}

func getAttributes(r *request) (any, *fault) {
	in, bad := read[attributesInput](r)
	if bad != nil {
		return nil, bad
	}
	return r.with("GetQueueAttributes", in.QueueURL, func(q *queue) (any, *fault) {
		all := q.allAttributes()
		if slices.Contains(in.AttributeNames, "All") {
			return map[string]any{"Attributes": all}, nil
		}
		out := make(map[string]string)
		for _, name := range in.AttributeNames {
			if value, ok := all[name]; ok {
				out[name] = value
			}
		}
		return map[string]any{"Attributes": out}, nil
	})
}

func (q *queue) allAttributes() map[string]string {
	out := maps.Clone(q.attrs)
	maps.DeleteFunc(out, func(_, value string) bool { return value == "" })
	out["QueueArn"] = q.where.arn()
	out["CreatedTimestamp"] = strconv.FormatInt(q.created.Unix(), 10)
	c := q.approximate()
	out["ApproximateNumberOfMessages"] = strconv.Itoa(c.visible)
	out["ApproximateNumberOfMessagesNotVisible"] = strconv.Itoa(c.inFlight)
	out["ApproximateNumberOfMessagesDelayed"] = strconv.Itoa(c.delayed)
	return out
}
