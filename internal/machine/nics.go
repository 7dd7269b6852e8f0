package machine

import (
	"net"
	"strings"
)

// NIC is one network interface that is not a loopback.
type NIC struct {
	MAC      string
	IPs      []string
	Prefixes []string // the same addresses, as 10.1.0.7/24
	Primary  bool     // has the default route
}

func (m Machine) interfaces() []NIC {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	primary := m.defaultRoute()
	var out []NIC
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil || i.Flags&net.FlagLoopback != 0 || len(i.HardwareAddr) == 0 {
			continue
		}
		n := NIC{MAC: i.HardwareAddr.String(), Primary: i.Name == primary}
		for _, a := range addrs {
			if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLinkLocalUnicast() {
				n.IPs, n.Prefixes = append(n.IPs, ip.IP.String()), append(n.Prefixes, ip.String())
			}
		}
		out = append(out, n)
		if len(out) == maxNICs {
			break
		}
	}
	return out
}

// maxNICs is how many the APIs show. A host of containers has more.
const maxNICs = 32

// defaultRoute is the interface of the IPv4 default route, or else of the IPv6 one.
func (m Machine) defaultRoute() string {
	for line := range strings.Lines(m.line("proc/net/route")) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "00000000" {
			return f[0]
		}
	}
	for line := range strings.Lines(m.line("proc/net/ipv6_route")) {
		if f := strings.Fields(line); len(f) > 9 && f[0] == strings.Repeat("0", 32) && f[1] == "00" && f[9] != "lo" {
			return f[9]
		}
	}
	return ""
}
