package capture

import (
	"runtime"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
)

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Parsing the kernel's types is most of what probing costs. It is done once for all that is tried and loaded, and what it
// gave is let go when a capture has started.
func TestTypesAreParsedOnce(t *testing.T) {
	needKernel(t)
	o := testOptions(t, 1<<20, testDisk(t, 1, 16<<20))
	o.Mode = ModePayload
	kernelTypes.forget()
	var types *btf.Spec
	parse := allocated(func() {
		var err error
		types, err = kernelTypes.get().Kernel()
		require.NoError(t, err)
	})
	Probe() // what the library finds out once, too
	again := allocated(func() { Probe() })
	require.Less(t, again, 2*parse, "two sets of programs and the tracepoints were looked up without parsing again")
	used, err := loadOptions()
	require.NoError(t, err)
	require.Same(t, types, used.Programs.KernelTypes)
	e, err := Start(o)
	require.NoError(t, err)
	require.NoError(t, e.Close())
	require.NotSame(t, used.Cache, kernelTypes.get())
}
