// Package uapi writes and reads the WireGuard cross-platform configuration
// protocol (https://www.wireguard.com/xplatform/#configuration-protocol), the
// text that wireguard-go is configured by.
//
// It promises the smallest set operation between two wishes: sessions of
// unchanged peers are not touched, and an address that moves from one peer to
// another is never without an owner in between.
//
// It owns nothing outside the process, imports the tunnel dictionary and
// standard value packages only, and never logs: the text it writes carries the
// private key.
package uapi
