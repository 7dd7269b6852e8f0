package blockdev

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIdentity(t *testing.T) {
	all := Info{Path: "/dev/none", WWN: "w", Serial: "s", Backing: "f", Made: "m", Bytes: 5}
	for _, want := range []string{"wwn:w", "serial:s", "file:f", "made:m", "path:/dev/none"} {
		require.Equal(t, want, all.Identity())
		switch want[0] {
		case 'w':
			all.WWN = ""
		case 's':
			all.Serial = ""
		case 'f':
			all.Backing = ""
		case 'm':
			all.Made = ""
		}
	}
	mbr, gpt := make([]byte, 512), make([]byte, 512)
	require.Empty(t, tableIdentity(mbr, gpt))
	mbr[510], mbr[511] = 0x55, 0xaa
	require.Empty(t, tableIdentity(mbr, gpt), "a boot sector need not be signed")
	mbr[440] = 7
	require.Equal(t, "mbr:00000007", tableIdentity(mbr, gpt))
	copy(gpt, "EFI PART")
	gpt[56], gpt[71] = 1, 2
	require.Equal(t, "gpt:01000000000000000000000000000002", tableIdentity(mbr, gpt))
}
