package blockdev

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHardwareIsToldByWhereTheKernelKeepsIt(t *testing.T) {
	for dir, is := range map[string]bool{
		"/sys/devices/pci0000:00/0000:00:03.0/virtio1/block/vda":             true,
		"/sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1":            true,
		"/sys/devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n1":           true, // it may have several paths
		"/sys/devices/platform/host0/session1/target0:0:0/0:0:0:1/block/sda": true,
		"/sys/devices/virtual/block/dm-0":                                    false,
		"/sys/devices/virtual/block/md0":                                     false,
		"/sys/devices/virtual/block/loop3":                                   false,
	} {
		require.Equal(t, is, hardware(dir), dir)
	}
}
