package guests

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The buses that a drive can be on.
const (
	Virtio    = "virtio"     // /dev/vdX
	SCSI      = "scsi"       // /dev/sdX, behind virtio-scsi
	NVMe      = "nvme"       // /dev/nvmeXn1
	NVMePaths = "nvme-paths" // the same, in a subsystem that may have several paths: another driver of the kernel's
)

// Drive is a disk of a guest: a raw file here, which has what the guest has written as soon as the guest was told so.
type Drive struct {
	Bus    string
	File   string
	Serial string
}

// NewDrive makes an empty disk.
func NewDrive(t *testing.T, dir, bus, serial string, bytes int64) Drive {
	t.Helper()
	d := Drive{bus, filepath.Join(dir, serial+".raw"), serial}
	f, err := os.OpenFile(d.File, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(bytes))
	require.NoError(t, f.Close())
	return d
}

// arguments are QEMU's for the i-th drive.
func (d Drive) arguments(i int) []string {
	node := fmt.Sprintf("drive%d", i)
	args := []string{"-drive", fmt.Sprintf("if=none,id=%s,file=%s,format=raw,cache=unsafe,discard=unmap", node, d.File), "-device"}
	switch d.Bus {
	case SCSI:
		return append(args, fmt.Sprintf("scsi-hd,bus=scsi.0,drive=%s,serial=%s,wwn=0x5000c500%08x", node, d.Serial, i+1))
	case NVMe:
		return append(args, fmt.Sprintf("nvme,drive=%s,serial=%s", node, d.Serial))
	case NVMePaths:
		return append(args, fmt.Sprintf("nvme-subsys,id=subsystem%d,nqn=nqn.2026-11.test:%s", i, d.Serial),
			"-device", fmt.Sprintf("nvme,id=controller%d,serial=%s,subsys=subsystem%d", i, d.Serial, i),
			"-device", fmt.Sprintf("nvme-ns,bus=controller%d,drive=%s,shared=on", i, node))
	default:
		return append(args, fmt.Sprintf("virtio-blk-pci,drive=%s,serial=%s,bootindex=%d", node, d.Serial, i+1))
	}
}
