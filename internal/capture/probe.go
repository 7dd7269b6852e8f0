package capture

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Feature is something that capturing needs of the kernel.
type Feature struct {
	Name string
	Has  string // what was found
	Err  error  // why it will not do, with a hint; nil when it will
}

// Probe tries what a capture needs of this kernel, without capturing anything. It looks at what the kernel does and
// never at its version.
func Probe() []Feature {
	all := []Feature{
		{"lockdown", lockdownMode(), nil},
		{"type information (BTF)", "/sys/kernel/btf/vmlinux", nil},
		{"BPF ring buffer", "works", kernelFault("probe", features.HaveMapType(ebpf.RingBuf))},
		{"block tracepoints", "typed", probeTracepoints()},
		{"BPF file system", bpffsRoot, ensureBPFFS(bpffsRoot)},
		{"capture programs", "the kernel's verifier takes them", nil},
	}
	if err := supported(); err != nil {
		if _, missing := os.Stat("/sys/kernel/btf/vmlinux"); missing != nil {
			all[1].Err = err
		} else {
			all[0].Err = err
		}
	}
	all[len(all)-1].Err = probePrograms()
	return all
}

func lockdownMode() string {
	b, err := os.ReadFile("/sys/kernel/security/lockdown")
	if errors.Is(err, fs.ErrNotExist) {
		return "not in this kernel, or securityfs is not mounted"
	}
	if _, rest, ok := strings.Cut(string(b), "["); ok {
		mode, _, _ := strings.Cut(rest, "]")
		return mode
	}
	return "unknown"
}

// probeTracepoints looks for the types of the tracepoints that the programs attach to.
func probeTracepoints() error {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return kernelFault("probe tracepoints", err)
	}
	spec, err := parseObject()
	if err != nil {
		return err
	}
	for _, p := range spec.Programs {
		kind, name, _ := strings.Cut(p.SectionName, "/")
		if kind != "tp_btf" {
			continue
		}
		var t *btf.Typedef
		if err := kernel.TypeByName("btf_trace_"+name, &t); err != nil {
			return fault.New(fault.Unsupported, "capture: probe tracepoints", "%s: %w", name, err).
				WithHint("needs a kernel built with CONFIG_BLOCK, CONFIG_TRACEPOINTS and BTF, as the distributions' are")
		}
	}
	return nil
}

// probePrograms loads the programs as for one small disk and lets them go.
func probePrograms() error {
	p := parts{maps: map[string]*ebpf.Map{}}
	defer p.close()
	o := owner{Version: formatVersion, Owner: "probe", RingBytes: minRing, Disks: []ownedDisk{{Disk: Disk{Bytes: 1 << 20}}}}
	programs, err := p.loadNew(o, addresses{})
	for name, prog := range programs {
		if name != "on_queue" { // which p.queue is
			prog.Close()
		}
	}
	return err
}
