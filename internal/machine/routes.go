package machine

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Route is a way to other networks by a router in one of the machine's own.
type Route struct {
	Destination string // as 10.2.0.0/16; 0.0.0.0/0 is the default
	Gateway     string
	MAC         string // of the interface
}

// Resolver is whom the machine asks for names.
type Resolver struct {
	Servers []string
	Search  []string
}

// What the network is described by is bounded: a router has the routes of half a world.
const (
	maxRoutes    = 64
	maxResolvers = 8
)

// Flags of /proc/net/route.
const (
	routeUp      = 1
	routeGateway = 2
)

// routes are the machine's IPv4 routes by a gateway.
func (m Machine) routes() []Route {
	var out []Route
	for line := range strings.Lines(m.line("proc/net/route")) {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		flags, err := strconv.ParseUint(f[3], 16, 16)
		if err != nil || flags&(routeUp|routeGateway) != routeUp|routeGateway { // the header among them
			continue
		}
		to, ok1 := hexAddr(f[1])
		gateway, ok2 := hexAddr(f[2])
		mask, ok3 := hexAddr(f[7])
		if !ok1 || !ok2 || !ok3 {
			continue
		}
		four := mask.As4()
		length := bits.OnesCount32(binary.BigEndian.Uint32(four[:]))
		r := Route{Destination: netip.PrefixFrom(to, length).String(), Gateway: gateway.String()}
		if i, err := net.InterfaceByName(f[0]); err == nil {
			r.MAC = i.HardwareAddr.String()
		}
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
		if len(out) == maxRoutes {
			break
		}
	}
	return out
}

// hexAddr is an address as the kernel prints it: a number in the machine's byte order.
func hexAddr(text string) (netip.Addr, bool) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != 4 {
		return netip.Addr{}, false
	}
	slices.Reverse(b) // no machine of ours is big-endian
	return netip.AddrFrom4([4]byte(b)), true
}

// resolver reads resolv.conf; where that names a resolver on the machine itself, what systemd's asks.
func (m Machine) resolver() Resolver {
	r := parseResolver(m.line("etc/resolv.conf"))
	if len(r.Servers) > 0 && !slices.ContainsFunc(r.Servers, func(s string) bool { a, err := netip.ParseAddr(s); return err == nil && !a.IsLoopback() }) {
		if behind := parseResolver(m.line("run/systemd/resolve/resolv.conf")); len(behind.Servers) > 0 {
			return behind
		}
	}
	return r
}

func parseResolver(text string) (r Resolver) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) < 2:
		case f[0] == "nameserver" && len(r.Servers) < maxResolvers:
			r.Servers = append(r.Servers, f[1])
		case f[0] == "search" || f[0] == "domain":
			r.Search = f[1:min(len(f), 1+maxResolvers)] // the last one counts
		}
	}
	return r
}
