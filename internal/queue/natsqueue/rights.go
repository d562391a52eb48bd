package natsqueue

import "cloudmaster/internal/queue"

// toOpen are the subjects that Open asks the broker on. The answers tell how many messages there are, but show none.
func toOpen(name string) []string {
	return []string{
		"$JS.API.STREAM.INFO." + streamName(name),
		"$JS.API.CONSUMER.INFO." + streamName(name) + "." + consumerName,
	}
}

// ToReceive returns the subjects that a program must be allowed to publish to in order to receive, extend, release,
// delete and bury the messages of a queue. The dead letters must exist already (see Options.LateLetters). Who may end
// one delivery of the queue may end all: the broker does not know who has received which.
func ToReceive(name string) []string {
	return append(
		toOpen(name),
		"$JS.API.CONSUMER.MSG.NEXT."+streamName(name)+"."+consumerName,
		"$JS.ACK."+streamName(name)+"."+consumerName+".>",
		"$JS.API.STREAM.INFO."+streamName(queue.DeadLetters(name)),
		subjectName(queue.DeadLetters(name)),
	)
}

// ToSend returns the subjects that a program must be allowed to publish to in order to send to a queue under the given
// sender's name, or under none if that is empty.
func ToSend(name, sender string) []string { return append(toOpen(name), sentBy(name, sender)) }
