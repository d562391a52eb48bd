// Package walkthrough plays the sample on AWS from beginning to end: the real controller, workers,
// allocator and clients, on LocalStack's EC2, SQS and S3. Each test reads like a script of what a
// person would do and see.
//
// Every walk-through has an account of its own; a wire in front of LocalStack, which can disturb
// calls; and a metal, which gives instances their processes. None of the programs notices these.
// The tests run if LOCALSTACK_ENDPOINT is set, which "make integration" does.
//
// Stories, whose tests begin with TestStory, play on the fake of AWS in integration/aws instead. It does what
// LocalStack does not: capacity, lists that lag, spot, throttling, senders of messages, and IAM. Each program has
// the rights of the IAM policy that "controller policy" prints for it, instances have the role that setup made,
// and a call that is not allowed fails the test. They need neither Docker nor LocalStack: "make stories" runs
// them alone.
package walkthrough
