package agent

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/machine"
)

// The verdicts of a check.
const (
	Good    = "ok"
	Warning = "warning" // replication works, but something deserves attention
	Failed  = "failed"  // replication would not work
)

// Check is one thing that was examined.
type Check struct {
	Name    string `json:"name"`
	Verdict string `json:"verdict"`
	Found   string `json:"found"`
	Do      string `json:"do,omitempty"` // what to do about it
}

// Diagnosis is what the doctor found.
type Diagnosis struct {
	Checks []Check `json:"checks"`
}

// Examination says what to examine besides the kernel and the machine. What is empty is left out.
type Examination struct {
	Devices      []string // those that are to be replicated; none for all hardware disks
	Endpoint     string
	CACert       string
	DataAddress  string // host:port; port 1500 of the endpoint when empty
	ProxyAddress string
	RingBytes    int
	BacklogBytes int
	CaptureMode  capture.Mode // auto when empty
}

// Examine looks for what would keep this machine from being replicated. It probes, and changes nothing.
func Examine(ctx context.Context, e Examination) Diagnosis {
	var d Diagnosis
	if os.Geteuid() == 0 {
		d.good("permission", "root")
		d.kernel(e.CaptureMode, probe())
	} else {
		d.add(Check{"permission", Failed, "not root", "run it as root; what needs root was not examined"})
	}
	id, err := machine.Here().Identity()
	d.check("machine identity", id, err)
	d.memory(e.RingBytes + e.BacklogBytes)
	d.synchronised()
	if e.Endpoint != "" {
		d.network(ctx, e)
	}
	d.disks(e.Devices)
	return d
}

// kernel says what capturing has to do with. What only a better mode needs than the one that works is a warning.
func (d *Diagnosis) kernel(wish capture.Mode, found []capture.Feature) {
	if wish == "" {
		wish = capture.ModeAuto
	}
	best, err := capture.Choose(wish, found)
	for _, f := range found {
		verdict := Failed
		if err == nil && !slices.Contains(f.For, best.Mode) {
			verdict = Warning
		}
		d.judge("kernel: "+f.Name, f.Has, f.Err, verdict)
	}
	switch {
	case err != nil:
		d.check("capture mode", "", err)
	case best.Mode == capture.ModePayload:
		d.good("capture mode", string(best.Mode))
	default:
		d.add(Check{"capture mode", Warning, string(best.Mode) + ", " + best.Why,
			"replication works, but only moments without writes are recovery points, not every second"})
	}
}

func (d *Diagnosis) add(c Check)             { d.Checks = append(d.Checks, c) }
func (d *Diagnosis) good(name, found string) { d.add(Check{name, Good, found, ""}) }
func (d *Diagnosis) check(name, found string, err error) {
	d.judge(name, found, err, Failed)
}

func (d *Diagnosis) judge(name, found string, err error, verdict string) {
	if err == nil {
		d.good(name, found)
		return
	}
	hint, cause := fault.HintOf(err), err
	//nolint:errorlint // only the outermost is peeled: the check's name says what was done
	if f, ok := err.(*fault.Error); ok && f.Err != nil {
		cause = f.Err
	}
	d.add(Check{name, verdict, strings.TrimSuffix(cause.Error(), " ("+hint+")"), hint})
}

// Err is nil unless something would prevent replication.
func (d Diagnosis) Err() error {
	var failed []string
	for _, c := range d.Checks {
		if c.Verdict == Failed {
			failed = append(failed, c.Name)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return fault.New(fault.Unsupported, "agent: doctor", "this machine cannot be replicated as it is: %s", strings.Join(failed, ", ")).
		WithHint("'understudy agent doctor' says what to do about each")
}

// Print shows the diagnosis to a person.
func (d Diagnosis) Print(w io.Writer) {
	for _, c := range d.Checks {
		fmt.Fprintf(w, "%-8s %s: %s\n", c.Verdict, c.Name, c.Found)
		if c.Do != "" {
			fmt.Fprintf(w, "         -> %s\n", c.Do)
		}
	}
	if d.Err() == nil {
		fmt.Fprintln(w, "this machine can be replicated")
	}
}

// spareMemory is what the agent takes besides its ring and its backlog.
const spareMemory = 300 << 20

func (d *Diagnosis) memory(writes int) {
	need := uint64(writes) + spareMemory
	have, err := available()
	found := fmt.Sprintf("%d MiB available, %d MiB needed at most", have>>20, need>>20)
	switch {
	case err != nil:
		d.add(Check{"memory", Warning, err.Error(), ""})
	case have < need:
		d.add(Check{"memory", Warning, found, "free some, or take less with --ring-mib and --backlog-mib: they hold writes while the link is slow"})
	default:
		d.good("memory", found)
	}
}

func available() (uint64, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "MemAvailable:" {
			kib, err := strconv.ParseUint(f[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fault.New(fault.Unsupported, "agent: memory", "/proc/meminfo does not tell what is available")
}

// unsynchronised is STA_UNSYNC of adjtimex(2).
const unsynchronised = 0x40

func (d *Diagnosis) synchronised() {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err == nil && t.Status&unsynchronised == 0 {
		d.good("clock synchronisation", "on")
		return
	}
	d.add(Check{"clock synchronisation", Warning, "the kernel's clock is not kept in time",
		"run chrony, systemd-timesyncd or the hypervisor's: recovery points are named by this machine's clock"})
}

// disks examines those that were named, or all hardware.
func (d *Diagnosis) disks(named []string) {
	var infos []blockdev.Info
	if len(named) == 0 {
		all, err := blockdev.List()
		if err != nil {
			d.check("disks", "", err)
			return
		}
		infos = slices.DeleteFunc(all, func(i blockdev.Info) bool { return unlikely(i) != nil })
		if len(infos) == 0 {
			_, err = detect()
			d.check("disks", "", err)
		}
	}
	for _, path := range named {
		info, err := blockdev.Stat(path)
		if err != nil {
			d.check("disk "+path, "", err)
			continue
		}
		infos = append(infos, info)
	}
	d.examineDisks(infos, len(named) > 0, bootDisk())
}

// examineDisks fails what was asked for and cannot be; what was only found is a warning.
func (d *Diagnosis) examineDisks(infos []blockdev.Info, named bool, boot blockdev.Dev) {
	verdict := Warning
	if named {
		verdict = Failed
	}
	hasBoot := false
	for _, i := range infos {
		name := "disk " + i.Path
		hasBoot = hasBoot || i.Disk == boot
		if err := refused(i); err != nil {
			d.judge(name, "", err, verdict)
			continue
		}
		_, statistics := blockdev.InFlightWrites(i.Disk)
		switch err := unlikely(i); {
		case statistics != nil && !fault.Is(statistics, fault.NotFound):
			d.judge(name, "", statistics, verdict)
		case err != nil:
			d.judge(name, "", err, Warning)
		case hardwareName(i) == "":
			d.add(Check{name, Warning, describeDisk(i) + ", no serial number and no WWN",
				"name it by a path that does not change (/dev/disk/by-path/...), or give it a serial number in the hypervisor"})
		default:
			d.good(name, describeDisk(i))
		}
	}
	if len(infos) > 0 {
		d.judge("disk identities", "no two alike", sameDisk(infos), verdict)
	}
	if boot != (blockdev.Dev{}) && !hasBoot && named {
		d.add(Check{"boot disk", Warning, nameOf(boot) + ", which / is on, is not replicated", "name it too, or what is launched has nothing to boot from"})
	}
}

// nameOf is what people call a disk.
func nameOf(disk blockdev.Dev) string {
	all, err := blockdev.List()
	if i := slices.IndexFunc(all, func(d blockdev.Info) bool { return d.Disk == disk }); err == nil && i >= 0 {
		return all[i].Path
	}
	return "device " + disk.String()
}
