package serve

import (
	"net"

	"github.com/understudy-dr/understudy/internal/fault"
)

// checkInsecure refuses plain HTTP where others could listen.
func checkInsecure(listen string) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fault.New(fault.Invalid, "--listen", "%w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fault.New(fault.Invalid, "--insecure-http", "%s is not a loopback address", host).
			WithHint("credentials and disks would cross the network in the clear; leave --insecure-http out")
	}
	return nil
}
