// Package walkthrough plays the sample on AWS from beginning to end: the real
// controller, workers, allocator and clients, on LocalStack's EC2, SQS and S3.
// Each test reads like a script of what a person would do and see.
//
// Every walk-through has an account of its own, a wire before LocalStack that can be
// disturbed, and a metal that gives instances their processes. None of the programs
// knows of that. The tests run where LOCALSTACK_ENDPOINT is set; make integration sets it.
package walkthrough
