package machine

import (
	"encoding/hex"
	"regexp"
	"strings"
)

// dmi is what the firmware says of the machine, "" where it says nothing.
func (m Machine) dmi(name string) string { return m.line("sys/class/dmi/id/" + name) }

// vmwareUUID is the UUID that vCenter shows. The serial number has it byte by byte; in the system UUID the order of
// bytes depends on the version of the virtual hardware.
func (m Machine) vmwareUUID() string {
	if !strings.HasPrefix(m.dmi("sys_vendor"), "VMware") {
		return ""
	}
	text, ok := strings.CutPrefix(m.dmi("product_serial"), "VMware-")
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "-", "").Replace(text))
	if !ok || err != nil || len(b) != 16 {
		return m.systemUUID()
	}
	h := hex.EncodeToString(b)
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

var instanceID = regexp.MustCompile(`^i-[0-9a-f]{8,17}$`)

// awsInstanceID is the id of an EC2 instance, which its firmware has as the asset tag.
func (m Machine) awsInstanceID() string {
	if id := m.dmi("board_asset_tag"); m.dmi("sys_vendor") == "Amazon EC2" && instanceID.MatchString(id) {
		return id
	}
	return ""
}
