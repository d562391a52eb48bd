// Package assumptions tests what CloudMaster believes about AWS, as far as LocalStack can show it.
// Each test has the number of its entry in docs/assumptions.md, which names the source in AWS's
// documentation, and also lists the beliefs that LocalStack cannot show.
//
// The tests run if LOCALSTACK_ENDPOINT is set. With ASSUMPTIONS_ON_AWS=1 they run instead in the
// account and region that the AWS SDK finds in its usual places. There they cost a few requests,
// and ten small instances for a minute.
package assumptions
