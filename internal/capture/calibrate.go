package capture

import (
	"crypto/rand"
	"encoding/binary"
	"os"
	"runtime"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/fault"
)

// addresses are where the kernel keeps its page structures and maps all memory. They are random at every boot, and many
// kernels do not tell, so they are measured:
//
//	page frame number of a page of ours   /proc/self/pagemap
//	its struct page                       a bio that reads a disk into it
//	  => vmemmap = struct page - frame * sizeof(struct page)
//	an address in the map of all memory   the current task's structure
//	  => page_offset is at or below it, a multiple of 1 GiB, and page_offset + frame * 4096 holds what our page holds
type addresses struct{ vmemmap, pageOffset uint64 }

// calibration mirrors struct calibration of bpf/capture.bpf.c.
type calibration struct {
	Thread, Dev                  uint64
	Page, Offset, Task, PageSize uint64
	Probe                        uint64
	Found                        magic
	Error                        uint64
}

type magic [4]uint64

const (
	pageBytes = 4096
	mapAlign  = 1 << 30
	maxProbes = 1 << 16 // 64 TiB of memory
)

type calibrator struct {
	note  *ebpf.Map
	probe *ebpf.Program
	disk  *blockdev.Device
}

// calibrate measures twice, with two pages, and wants the same result.
func calibrate(d Disk) (a addresses, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	disk, err := blockdev.Open(d.Path)
	if err != nil {
		return a, err
	}
	defer disk.Close()
	spec, err := parseObject(ModePayload)
	if err != nil {
		return a, err
	}
	var objects struct {
		Note  *ebpf.Program `ebpf:"on_calibrate"`
		Probe *ebpf.Program `ebpf:"on_probe"`
		Map   *ebpf.Map     `ebpf:"calibration"`
	}
	options, err := loadOptions()
	if err != nil {
		return a, err
	}
	if err := spec.LoadAndAssign(&objects, &options); err != nil {
		return a, kernelFault("load calibration", err)
	}
	defer objects.Note.Close()
	defer objects.Probe.Close()
	defer objects.Map.Close()
	l, err := link.AttachTracing(link.TracingOptions{Program: objects.Note})
	if err != nil {
		return a, kernelFault("attach calibration", err)
	}
	defer l.Close()
	k := calibrator{note: objects.Map, probe: objects.Probe, disk: disk}
	if a, err = k.measure(); err != nil {
		return a, err
	}
	again, err := k.measure()
	if err == nil && again != a {
		err = uncalibrated("two measurements differ: %x and %x", a, again)
	}
	return a, err
}

// measure uses one page. The page may be moved in between, which its frame number shows; then it is tried again.
func (k *calibrator) measure() (a addresses, err error) {
	mem, err := unix.Mmap(-1, 0, pageBytes, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE|unix.MAP_LOCKED)
	if err != nil {
		return a, uncalibrated("lock a page: %w", err)
	}
	defer unix.Munmap(mem)
	for range 3 {
		before, err := frameOf(mem)
		if err != nil {
			return a, err
		}
		a, err = k.try(mem, before)
		if err != nil {
			return a, err
		}
		after, err := frameOf(mem)
		if err != nil {
			return a, err
		}
		if before == after && a.pageOffset != 0 {
			return a, nil
		}
	}
	return a, uncalibrated("no address holds the page that was looked for")
}

// try returns a zero pageOffset if the page was not found.
func (k *calibrator) try(mem []byte, frame uint64) (addresses, error) {
	note, err := k.readInto(mem)
	if err != nil {
		return addresses{}, err
	}
	if note.Page == 0 || note.PageSize == 0 {
		return addresses{}, uncalibrated("the read of %s did not pass the tracepoint", k.disk.Info().Path)
	}
	a := addresses{vmemmap: note.Page - (frame-note.Offset/pageBytes)*note.PageSize}
	var want magic
	rand.Read(mem)
	for i := range want {
		want[i] = binary.LittleEndian.Uint64(mem[8*i:])
	}
	a.pageOffset, err = k.search(note, frame, want)
	runtime.KeepAlive(mem)
	return a, err
}

// readInto reads the disk's first page into mem; on_calibrate notes how the kernel did.
func (k *calibrator) readInto(mem []byte) (calibration, error) {
	dev := k.disk.Info().Disk
	n := calibration{Thread: uint64(os.Getpid())<<32 | uint64(unix.Gettid()), Dev: uint64(deviceKey(dev))}
	if err := k.note.Put(uint32(0), n); err != nil {
		return n, kernelFault("calibrate", err)
	}
	if _, err := k.disk.ReadAt(mem, 0); err != nil {
		return n, fault.Wrap("capture: calibrate", err)
	}
	return n, kernelFault("calibrate", k.note.Lookup(uint32(0), &n))
}

// search probes the candidates, from the task's address downwards.
func (k *calibrator) search(note calibration, frame uint64, want magic) (uint64, error) {
	highest := note.Task &^ (mapAlign - 1)
	context := make([]uint64, 4)
	for i := range uint64(maxProbes) {
		candidate := highest - i*mapAlign
		note.Probe, note.Error = candidate+frame*pageBytes, 1
		if err := k.note.Put(uint32(0), note); err != nil {
			return 0, kernelFault("calibrate", err)
		}
		if _, err := k.probe.Run(&ebpf.RunOptions{Context: context}); err != nil {
			return 0, kernelFault("calibrate", err)
		}
		var got calibration
		if err := k.note.Lookup(uint32(0), &got); err != nil {
			return 0, kernelFault("calibrate", err)
		}
		if got.Error == 0 && got.Found == want {
			return candidate, nil
		}
	}
	return 0, nil
}

// frameOf is the page frame number of a page of ours.
func frameOf(mem []byte) (uint64, error) {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return 0, uncalibrated("%w", err)
	}
	defer f.Close()
	var entry [8]byte
	page := uint64(uintptr(unsafe.Pointer(&mem[0]))) / pageBytes
	if _, err := f.ReadAt(entry[:], int64(page*8)); err != nil {
		return 0, uncalibrated("%w", err)
	}
	frame := binary.LittleEndian.Uint64(entry[:]) & (1<<55 - 1)
	if frame == 0 {
		return 0, uncalibrated("the kernel hides page frame numbers")
	}
	return frame, nil
}

func uncalibrated(format string, args ...any) error {
	return fault.New(fault.Unsupported, "capture: calibrate", format, args...).
		WithHint("the data of writes cannot be read on this kernel; run as root on the host itself, not in a container")
}
