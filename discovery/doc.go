// Package discovery is the dictionary of who is there, how well, and what the
// cloud is told of it: nodes and their signed records, services, observations
// and views, target groups, splits and VPC routes, and the wishes for each.
//
// It promises that its values are plain: no pointers to living things, nothing
// that reads a clock or a socket, sorted slices wherever a value leaves a room.
//
// The rooms beneath it do the work: discovery/gossip (members and records),
// discovery/probe (first-hand observations), discovery/check (service health),
// discovery/elb and discovery/vpc (AWS). discovery/cloudtest is the strict AWS
// fake that they are tested against.
//
// It imports standard value packages only.
package discovery
