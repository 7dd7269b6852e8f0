package sizes

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

func catalogue(t *testing.T) *Catalogue {
	t.Helper()
	c, err := Default()
	require.NoError(t, err)
	return c
}

func TestCatalogue(t *testing.T) {
	c := catalogue(t)
	require.Greater(t, len(c.All()), 100)
	s, ok := c.Find("m5.large")
	require.True(t, ok)
	require.Equal(t, Size{Name: "m5.large", VCPUs: 2, MemoryMiB: 8192, Architecture: X86, Current: true}, s)
	_, ok = c.Find("m5.huge")
	require.False(t, ok)
}

func TestOwnSizes(t *testing.T) {
	c, err := catalogue(t).With(strings.NewReader("# ours\nrack.small,1,512\nm5.large, 2, 4096, arm64, previous\n"))
	require.NoError(t, err)
	s, ok := c.Find("rack.small")
	require.True(t, ok)
	require.Equal(t, Size{Name: "rack.small", VCPUs: 1, MemoryMiB: 512, Architecture: X86, Current: true}, s)
	s, _ = c.Find("m5.large")
	require.Equal(t, Size{Name: "m5.large", VCPUs: 2, MemoryMiB: 4096, Architecture: ARM}, s)
	for _, bad := range []string{"x", "rack,1,2", "rack.small,0,512", "rack.small,1,x", "rack.small,1,512,mips", `rack.small,1,"512`} {
		_, err = catalogue(t).With(strings.NewReader(bad))
		require.True(t, fault.Is(err, fault.Invalid), "%s: %v", bad, err)
	}
}

func TestRecommend(t *testing.T) {
	c := catalogue(t)
	for _, v := range []struct {
		vcpus, memory int64
		arch, want    string
	}{
		{1, 256, X86, "t3.nano"}, {2, 4096, X86, "c5.large"}, {2, 4097, X86, "m5.large"}, {3, 9000, X86, "m5.xlarge"},
		{1, 1024, ARM, "c6g.medium"}, {96, 500 << 10, X86, "r5.24xlarge"}, {4000, 1, X86, "r6i.32xlarge"},
	} {
		s, ok := c.Recommend(v.vcpus, v.memory, v.arch)
		require.True(t, ok)
		require.Equal(t, v.want, s.Name)
	}
	_, ok := c.Recommend(1, 1, "mips")
	require.False(t, ok)
}

func TestResolveByRule(t *testing.T) {
	c := catalogue(t)
	for name, want := range map[string]Size{
		"m5.large":    {Name: "m5.large", VCPUs: 2, MemoryMiB: 8192, Architecture: X86, Current: true},
		"m9i.2xlarge": {Name: "m9i.2xlarge", VCPUs: 8, MemoryMiB: 32768, Architecture: X86, Current: true},
		"r8gd.large":  {Name: "r8gd.large", VCPUs: 2, MemoryMiB: 16384, Architecture: ARM, Current: true},
		"g5.xlarge":   {Name: "g5.xlarge", VCPUs: 4, MemoryMiB: 16384, Architecture: X86, Current: true},
	} {
		s, ok := c.Resolve(name)
		require.True(t, ok, name)
		require.Equal(t, want, s)
	}
	for _, name := range []string{"", "m5", "m5.", ".large", "m9i.huge", "m9i.0xlarge", "q1.large", "m9i.xxlarge", "M5.large"} {
		_, ok := c.Resolve(name)
		require.False(t, ok, name)
	}
}
