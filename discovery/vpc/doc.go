// Package vpc holds the hand [NextHops]: it keeps the route for the mesh
// prefix, in each VPC route table that it is given, on the network interface
// of a living gateway.
//
// It promises: every Apply reads the tables and reports them, errors included;
// a reading that failed keeps the last good one and says so. It writes only
// when the wish says so and only where the interface differs, each call once
// and with a deadline. Tables are independent: one that fails does not stop
// the others. A route for the prefix that leads to something else than a
// network interface is somebody's, and is refused.
//
// Outside the process it owns exactly one route per table: the one whose
// destination is the masked mesh prefix. It never deletes it.
//
// It imports the dictionary, the AWS SDK and discovery/internal/awsapi. It
// never retries, caches or decides: its loop and its wish do. A route's state
// says nothing of the gateway's life: a hung host stays active.
package vpc
