package blockdev

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// fakeDisk is a disk as /sys/block has it.
func fakeDisk(t *testing.T, block, name, iostats, inflight string) {
	t.Helper()
	dir := filepath.Join(block, name)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "queue"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "queue/iostats"), []byte(iostats+"\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "inflight"), []byte(inflight+"\n"), 0o600))
}

// Linux 6.1 counts nothing for the NVMe disk that has the paths: it must not be read, whatever its iostats says.
func TestAnNVMeDiskIsCountedByItsPaths(t *testing.T) {
	block := t.TempDir()
	for name, inflight := range map[string]string{"nvme1n1": "0 0", "nvme1c1n1": "1 2", "nvme1c4n1": "0 5", "nvme1c1n2": "0 9", "nvme10c1n1": "0 9", "nvme0n1": "0 1"} {
		fakeDisk(t, block, name, "1", inflight)
	}
	const subsystem = "/sys/devices/virtual/nvme-subsystem/nvme-subsys1/"
	require.Equal(t, []string{block + "/nvme1c1n1", block + "/nvme1c4n1"}, counters(subsystem+"nvme1n1", block))
	require.Equal(t, []string{subsystem + "nvme2n1"}, counters(subsystem+"nvme2n1", block), "it has lost its last path")
	const bus = "/sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1"
	require.Equal(t, []string{bus}, counters(bus, block))
	fields, err := readFields(block+"/nvme1c4n1", "inflight", 2)
	require.NoError(t, err)
	require.Equal(t, []uint64{0, 5}, fields)
}

func TestStatisticsThatAreTurnedOffAreNotRead(t *testing.T) {
	block := t.TempDir()
	fakeDisk(t, block, "sda", "0", "0 0")
	_, err := readFields(block+"/sda", "inflight", 2)
	require.True(t, fault.Is(err, fault.Unsupported), "%v", err)
	require.ErrorContains(t, err, "sda keeps none (write 1 to queue/iostats of sda in /sys/block)")
	fakeDisk(t, block, "sda", "1", "0")
	_, err = readFields(block+"/sda", "inflight", 2)
	require.True(t, fault.Is(err, fault.Unsupported), "%v", err)
}
