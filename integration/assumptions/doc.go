// Package assumptions holds what CloudMaster takes AWS to be like, as far as a LocalStack
// can show it. Each test has the number of its entry in docs/assumptions.md, where its source
// in AWS's documentation stands, and what no LocalStack shows.
//
// The tests run where LOCALSTACK_ENDPOINT is set. With ASSUMPTIONS_ON_AWS=1 they run in the
// account and region of the SDK's normal chain instead, where they cost a few requests and
// ten small instances for a minute.
package assumptions
