// Package hostnet is the [tunnel.Network] of a backend that has an interface:
// system sockets bound to the own overlay addresses.
//
// It promises that a socket never listens on more than an overlay address, and
// that all of them end with [Network.Close], because a socket does not notice
// that its interface is gone.
//
// It owns outside the process the sockets it is asked for, and imports the
// tunnel dictionary only.
package hostnet
