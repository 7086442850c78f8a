// Package wish is what every backend does with a wish before it touches
// anything: take a copy of its own, fill in defaults, refuse what no device
// could keep, and say which changes a living device cannot make.
//
// It is pure, owns nothing outside the process, and imports the tunnel
// dictionary and tunnel/internal/uapi only.
package wish
