package capture

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// What captures here must probe as able to, and probing must leave nothing.
func TestProbeSaysWhatThisKernelHas(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it loads BPF programs")
	}
	for _, f := range Probe() {
		require.NoError(t, f.Err, f.Name)
		require.NotEmpty(t, f.Has, f.Name)
	}
}
