// Package walkthrough plays the sample on AWS from beginning to end: the real controller, workers,
// allocator and clients, on LocalStack's EC2, SQS and S3. Each test reads like a script of what a
// person would do and see.
//
// Every walk-through has an account of its own; a wire in front of LocalStack, which can disturb
// calls; and a metal, which gives instances their processes. None of the programs notices these.
// The tests run if LOCALSTACK_ENDPOINT is set, which "make integration" does.
package walkthrough
