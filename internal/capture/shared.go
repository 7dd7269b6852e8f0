package capture

import (
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
)

// control mirrors struct control of bpf/layout.h.
type control struct {
	complete    uint64
	current     uint64
	drops       uint64
	remembered  uint64
	outstanding uint64
	drainWanted uint64
	drainEnded  uint64
	misses      uint64
	lost        uint64
}

// diskEntry mirrors struct disk.
type diskEntry struct {
	Word    uint64
	Sectors uint64
	Written uint64
	Shift   uint32
	Index   uint32
}

// The regions of the bits map, in its order.
const (
	regionGen0 = iota
	regionGen1
	regionDebt
	regionLate
	regions
)

// MetaCells is the number of cells of Meta.
const MetaCells = 64

// shared is the memory that the programs and this process both see: the mmapable maps.
type shared struct {
	control *control
	meta    []uint64
	region  [regions][]uint64 // gen0, gen1, debt, late; laid out by plan
	plan    plan
	maps    [][]byte
}

// mapShared maps the three arrays. The memory outlives the maps' file descriptors.
func mapShared(controlMap, metaMap, bitsMap *ebpf.Map, p plan) (*shared, error) {
	s := &shared{plan: p}
	words := p.words
	sizes := []int{int(unsafe.Sizeof(control{})), MetaCells * 8, int(regions * words * 8)}
	for i, m := range []*ebpf.Map{controlMap, metaMap, bitsMap} {
		b, err := unix.Mmap(m.FD(), 0, pageUp(sizes[i]), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			_ = s.unmap()
			return nil, kernelFault("map "+m.String(), err)
		}
		s.maps = append(s.maps, b)
	}
	s.control = (*control)(unsafe.Pointer(&s.maps[0][0]))
	s.meta = unsafe.Slice((*uint64)(unsafe.Pointer(&s.maps[1][0])), MetaCells)
	all := unsafe.Slice((*uint64)(unsafe.Pointer(&s.maps[2][0])), regions*words)
	for i := range s.region {
		s.region[i] = all[uint64(i)*words : uint64(i+1)*words]
	}
	return s, nil
}

func (s *shared) unmap() error {
	var first error
	for _, b := range s.maps {
		if err := unix.Munmap(b); err != nil && first == nil {
			first = fault.New(fault.Bug, "capture: unmap", "%w", err)
		}
	}
	s.maps, s.control, s.meta, s.region = nil, nil, nil, [regions][]uint64{}
	return first
}

func pageUp(n int) int {
	page := unix.Getpagesize()
	return (n + page - 1) &^ (page - 1)
}
