package capture

import (
	"errors"
	"io/fs"
	"os"
	"slices"
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
	For  []Mode // the modes that need it
}

// Probe tries what each mode needs of this kernel, without capturing anything. It looks at what the kernel does and
// never at its version.
func Probe() []Feature {
	payload, bpf := []Mode{ModePayload}, []Mode{ModePayload, ModeBitmap}
	return []Feature{
		{"lockdown", lockdownMode(), probeLockdown(), payload},
		{"type information (BTF)", btfPath, probeBTF(), bpf},
		{"BPF ring buffer", "works", kernelFault("probe", features.HaveMapType(ebpf.RingBuf)), payload},
		{"block tracepoints", "typed", probeTracepoints(), bpf},
		{"BPF file system", bpffsRoot, ensureBPFFS(bpffsRoot), bpf},
		{"capture programs", "the kernel's verifier takes them", probePrograms(ModePayload), payload},
		{"bitmap programs", "the kernel's verifier takes them", probePrograms(ModeBitmap), []Mode{ModeBitmap}},
	}
}

// Choice is a mode and why it is that one.
type Choice struct {
	Mode Mode
	Why  string
}

// Choose takes the best mode that has all it needs, or the one that is wished for. It fails with Unsupported when that
// lacks something.
func Choose(wish Mode, found []Feature) (Choice, error) {
	if wish != ModeAuto {
		if f := lacks(wish, found); f != nil {
			return Choice{}, fault.New(fault.KindOf(f.Err), "capture: --capture-mode "+string(wish), "%s: %w", f.Name, f.Err)
		}
		return Choice{wish, "as --capture-mode says"}, nil
	}
	var why []string
	for _, m := range Modes {
		f := lacks(m, found)
		switch {
		case f != nil:
			why = append(why, "no "+string(m)+": "+reason(f))
		case why == nil:
			return Choice{m, "the kernel has all it needs"}, nil
		default:
			return Choice{m, strings.Join(why, "; ")}, nil
		}
	}
	return Choice{}, fault.New(fault.Unsupported, "capture: mode", "%s", strings.Join(why, "; "))
}

func reason(f *Feature) string {
	text := strings.TrimSuffix(f.Err.Error(), " ("+fault.HintOf(f.Err)+")")
	if strings.Contains(text, f.Name) {
		return text
	}
	return f.Name + ": " + text
}

// lacks is the first thing that a mode needs and does not have.
func lacks(m Mode, found []Feature) *Feature {
	for i := range found {
		if found[i].Err != nil && slices.Contains(found[i].For, m) {
			return &found[i]
		}
	}
	return nil
}

const (
	btfPath      = "/sys/kernel/btf/vmlinux"
	lockdownPath = "/sys/kernel/security/lockdown"
)

func probeBTF() error {
	if _, err := os.Stat(btfPath); err != nil {
		return fault.New(fault.Unsupported, "capture: open", "the kernel has no BTF: %w", err).
			WithHint("needs a kernel built with CONFIG_DEBUG_INFO_BTF, as the distributions' are from 6.1 on; or replicate by scan")
	}
	return nil
}

func probeLockdown() error {
	if lockdownMode() != "confidentiality" {
		return nil
	}
	return fault.New(fault.Unsupported, "capture: open", "kernel lockdown is in confidentiality mode, which forbids reading the data of writes").
		WithHint("boot with lockdown=integrity, the default under Secure Boot, or replicate by bitmap or scan")
}

func lockdownMode() string {
	b, err := os.ReadFile(lockdownPath)
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
	kernel, err := kernelTypes.get().Kernel()
	if err != nil {
		return kernelFault("probe tracepoints", err)
	}
	spec, err := parseObject(ModeBitmap) // which attaches to all that capturing payloads does
	if err != nil {
		return err
	}
	for _, p := range spec.Programs {
		_, name, _ := strings.Cut(p.SectionName, "/")
		var t *btf.Typedef
		if err := kernel.TypeByName("btf_trace_"+name, &t); err != nil {
			return fault.New(fault.Unsupported, "capture: probe tracepoints", "%s: %w", name, err).
				WithHint("needs a kernel built with CONFIG_BLOCK, CONFIG_TRACEPOINTS and BTF, as the distributions' are")
		}
	}
	return nil
}

// probePrograms loads the programs as for one small disk and lets them go.
func probePrograms(m Mode) error {
	p := newParts(m)
	defer p.close()
	own := owner{Version: formatVersion, Owner: "probe", Mode: m, RingBytes: minRing, Disks: []ownedDisk{{Disk: Disk{Bytes: 1 << 20}}}}
	own.lay()
	return p.loadNew(own, addresses{})
}
