// Package awsid proves and checks who a host is in AWS. [Prove] signs an
// sts:GetCallerIdentity over a challenge and gives the signature away instead
// of sending it; [Verifier] sends it to STS and reads the account and the role
// from AWS's own answer. [Instances] tells whether an EC2 instance is gone.
//
// It promises: the request that STS sees is built here, byte by byte. Of the
// stranger it carries a region word from a closed list and the values of four
// headers; never a URL, a Host, a path, a body or another header. The region
// must be the one that the signature is scoped to, the challenge must be among
// what was signed, and its answer must be a plain 200 with exactly one JSON
// object. Nothing is cached and no redirect is followed; a request is repeated
// once, when the first could not be sent at all. No error carries a session
// token. A doubt about an instance is an error, never "gone".
//
// It owns nothing outside the process: it makes read-only calls. HTTPS_PROXY
// and its kin are not honoured when STS is asked, so that no setting of the
// environment decides who vouches for strangers; a gateway without a way to
// STS is given a private endpoint (VerifierOptions.Endpoint). It imports the
// dictionary, the AWS SDK and discovery/internal/awsapi.
//
// What a proof is worth, and what not:
//
//   - It says that whoever made it could use the named role at that time.
//     Whoever may assume a role may prove it: a role that is allowed to join
//     wants a trust policy that names ec2.amazonaws.com alone, and a rule that
//     names the account and the role in full.
//   - The name of a session is chosen by whoever assumes the role. It is the
//     instance's id when EC2 itself assumed it, see [Caller.Instance]: under a
//     wider trust policy it is a claim and no more.
//   - AWS accepts a signature for some minutes (up to 15). Within them a proof
//     is worth what its challenge is worth, so the challenge must be random,
//     used once and bound to the connection (both ends' keys): otherwise a
//     false gateway passes it on and joins in the host's place.
//   - Until then the proof is a bearer secret, together with the session token
//     in it: it travels inside TLS to a gateway that the host has checked, and
//     [Proof] hides itself from logs. A gateway cannot use the token without
//     the secret key that stays on the host.
//   - The path of a role is not part of what STS answers: roles of different
//     paths have different names within an account.
//
// It never decides who may join, and never changes anything in AWS.
package awsid
