package serve

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

func TestAgentsNeedAnAddressToDial(t *testing.T) {
	for _, c := range []struct {
		listen, advertise string
		ok                bool
	}{
		{"127.0.0.1:1500", "", true},
		{"standby.example:1500", "", true},
		{"0.0.0.0:1500", "", false},
		{"[::]:1500", "", false},
		{":1500", "", false},
		{"0.0.0.0:1500", "standby.example:1500", true},
		{"127.0.0.1:1500", "standby.example", false},
		{"127.0.0.1:1500", ":1500", false},
		{"127.0.0.1", "", false},
	} {
		err := Config{DataListen: c.listen, Advertise: c.advertise}.checkData()
		require.Equal(t, c.ok, err == nil, "%+v: %v", c, err)
		require.True(t, err == nil || fault.Is(err, fault.Invalid))
	}
}
