package machine

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
)

// IDFileVariable names another file than /etc/machine-id, for machines that have none and for several agents on one.
const IDFileVariable = "UNDERSTUDY_MACHINE_ID_FILE"

// Identity is what this machine is recognised by when its agent is installed again: a digest over machine-id(5) and the
// SMBIOS system UUID, where there is one. Network cards are not in it: they are changed. The machine id itself is
// confidential and does not leave the machine.
func (m Machine) Identity() (string, error) {
	id, file := m.machineID()
	if id == "" || id == "uninitialized" { // which systemd writes before the first boot is over
		return "", fault.New(fault.Unsupported, "machine identity", "%s is missing or empty", file).
			WithHint("run systemd-machine-id-setup")
	}
	text := "understudy machine identity 1\n" + id
	if uuid := m.systemUUID(); uuid != "" {
		text += "\n" + uuid
	}
	return digest(text), nil
}

func (m Machine) machineID() (id, file string) {
	if file = os.Getenv(IDFileVariable); file != "" {
		return At("/").line(file), file
	}
	return m.line("etc/machine-id"), "/etc/machine-id"
}

// Presence is what tells a machine from a copy of itself that runs beside it.
type Presence struct {
	Identity string
	Disks    []string      // digests of what its hardware disks call themselves, sorted
	Boot     string        // another one each time the kernel starts
	Up       time.Duration // since the kernel started
}

// Presence is this machine's now. disks are the serial numbers or names of its hardware disks.
func (m Machine) Presence(disks []string) (Presence, error) {
	id, err := m.Identity()
	if err != nil {
		return Presence{}, err
	}
	p := Presence{Identity: id, Boot: m.line("proc/sys/kernel/random/boot_id")}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err == nil {
		p.Up = time.Duration(up.Nano())
	}
	for _, d := range disks {
		if d != "" {
			p.Disks = append(p.Disks, digest("understudy disk identity 1\n"+d))
		}
	}
	slices.Sort(p.Disks)
	p.Disks = slices.Compact(p.Disks)
	return p, nil
}

func digest(text string) string {
	h := sha256.Sum256([]byte(text))
	return hex.EncodeToString(h[:16])
}

// placeholders are system UUIDs that firmware has when nobody gave it one: they tell no machine from another.
var placeholders = []string{
	"00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "03000200-0400-0500-0006-000700080009",
	"12345678-1234-5678-90ab-cddeefaabbcc", "fefefefe-fefe-fefe-fefe-fefefefefefe",
}

// systemUUID is the SMBIOS system UUID, "" where there is none.
func (m Machine) systemUUID() string {
	uuid := strings.ToLower(m.dmi("product_uuid"))
	if slices.Contains(placeholders, uuid) {
		return ""
	}
	return uuid
}
