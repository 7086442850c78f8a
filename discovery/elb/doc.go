// Package elb holds the two hands that work on Elastic Load Balancing v2:
// [Weights] on the forward actions of listener rules and [Targets] on target
// groups. They are two so that a slow registration never delays a weight.
//
// Both promise: every Apply reads what the wish names and reports it, errors
// included; a reading that failed keeps the last good one and says so, unknown
// is never empty. They write only when the wish says so, only the difference,
// each call once and with a deadline; a repeat changes nothing.
//
// Weights resends the whole list of actions that it has just read, because
// ModifyRule replaces it; it never sets all weights to zero and never leaves
// stickiness on beside a weight of zero that it was asked for. Targets owns in
// a target group what lies within the mesh prefix and nothing else; it
// registers first, deregisters last, and never takes the last target, or the
// last healthy one, out of a group.
//
// Outside the process the room owns the weights and the target-group
// stickiness of the rules, and the targets within the mesh prefix.
//
// It imports the dictionary, the AWS SDK and discovery/internal/awsapi. It
// never retries, caches or decides: its loop and its wish do.
package elb
