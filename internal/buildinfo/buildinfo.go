// Package buildinfo names the build: one string that agent, server and command line print and exchange.
// Anything may import it.
package buildinfo

// Version is set by the linker (see the Makefile).
var Version = "unversioned"
