package capture

import (
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// kernelTypes is the kernel's type information, parsed once for all that is tried and loaded until a capture runs.
var kernelTypes typeCache

// typeCache parses when it is first asked, and again after it was told to forget. Parsing is most of what loading a program
// costs; keeping the result costs some MiB, which nobody needs while capturing.
type typeCache struct {
	mu  sync.Mutex
	now *btf.Cache
}

func (t *typeCache) get() *btf.Cache {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now == nil {
		t.now = btf.NewCache()
	}
	return t.now
}

func (t *typeCache) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = nil
}

// loadOptions make programs find their types in the kernel itself: left alone the library would parse and search those of every
// module, too, and nothing of the block layer is in one.
func loadOptions() (ebpf.CollectionOptions, error) {
	cache := kernelTypes.get()
	kernel, err := cache.Kernel()
	if err != nil {
		return ebpf.CollectionOptions{}, kernelFault("read the kernel's types", err)
	}
	return ebpf.CollectionOptions{Cache: cache, Programs: ebpf.ProgramOptions{KernelTypes: kernel}}, nil
}
