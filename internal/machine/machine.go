// Package machine reads the facts of the machine it runs on: what it is recognised by, and what the APIs show as source
// properties. The agent's assembly imports it.
package machine

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/understudy-dr/understudy/internal/fault"
)

// IDFileVariable names another file than /etc/machine-id, for machines that have none and for several agents on one.
const IDFileVariable = "UNDERSTUDY_MACHINE_ID_FILE"

// Identity is what this machine is recognised by when its agent is installed again: a digest over machine-id(5) and the
// SMBIOS system UUID, where there is one. The machine id itself is confidential and does not leave the machine.
func Identity() (string, error) {
	file := os.Getenv(IDFileVariable)
	if file == "" {
		file = "/etc/machine-id"
	}
	id, err := os.ReadFile(file)
	if err != nil || len(bytes.TrimSpace(id)) == 0 {
		return "", fault.New(fault.Unsupported, "machine identity", "%s is missing or empty: %v", file, err).
			WithHint("run systemd-machine-id-setup")
	}
	h := sha256.New()
	h.Write([]byte("understudy machine identity 1\n"))
	h.Write(bytes.TrimSpace(id))
	if uuid, err := os.ReadFile("/sys/class/dmi/id/product_uuid"); err == nil {
		h.Write([]byte{'\n'})
		h.Write(bytes.ToLower(bytes.TrimSpace(uuid)))
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// Facts are what the APIs show as source properties.
type Facts struct {
	Hostname string
	FQDN     string
	OS       string // content of /proc/version, as AWS's agent reports it
	RAMBytes uint64
	CPUs     []CPU // one per logical processor
	NICs     []NIC
}

// CPU is one logical processor.
type CPU struct {
	Cores int64
	Model string
}

// NIC is one network interface that is not a loopback.
type NIC struct {
	MAC     string
	IPs     []string
	Primary bool // has the default route
}

// Read collects the facts; what cannot be read is left empty.
func Read() Facts {
	f := Facts{}
	f.Hostname, _ = os.Hostname() // empty is what the API shows then
	f.FQDN = f.Hostname
	if v, err := os.ReadFile("/proc/version"); err == nil {
		f.OS = strings.TrimSpace(string(v))
	}
	f.RAMBytes = memory()
	f.CPUs = processors()
	f.NICs = interfaces()
	return f
}

func memory() uint64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) >= 2 && fields[0] == "MemTotal:" {
			kib, err := strconv.ParseUint(fields[1], 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}

func processors() []CPU {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	var out []CPU
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			out = append(out, CPU{Cores: 1, Model: strings.TrimSpace(value)})
		}
	}
	return out
}

func interfaces() []NIC {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	primary := defaultRoute()
	var out []NIC
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil || i.Flags&net.FlagLoopback != 0 || len(i.HardwareAddr) == 0 {
			continue
		}
		n := NIC{MAC: i.HardwareAddr.String(), Primary: i.Name == primary}
		for _, a := range addrs {
			if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLinkLocalUnicast() {
				n.IPs = append(n.IPs, ip.IP.String())
			}
		}
		out = append(out, n)
	}
	return out
}

// defaultRoute is the interface of the IPv4 default route.
func defaultRoute() string {
	b, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "00000000" {
			return f[0]
		}
	}
	return ""
}
