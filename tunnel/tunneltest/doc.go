// Package tunneltest holds what tests of the overlay share: devices in memory
// and the contract that every backend passes.
//
// It promises that the devices of an [Underlay] obey their wishes as WireGuard
// would: a packet passes only between two devices that have each other as
// peers, with AllowedIPs that cover both addresses, when one of them knows
// where the other is. [Contract] checks the same of a real backend, so that
// what holds against the fake holds in the field.
//
// It owns nothing outside the process, starts no goroutine except for the
// duration of a contract test, and may run in a testing/synctest bubble. It
// imports the tunnel dictionary and the standard library, and never imports a
// backend.
package tunneltest
