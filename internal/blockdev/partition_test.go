package blockdev

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// addPartition tells the kernel of a partition without writing a partition table.
func addPartition(disk *os.File, number int32, start, length int64) error {
	return blkpg(disk, unix.BLKPG_ADD_PARTITION, unix.BlkpgPartition{Pno: number, Start: start, Length: length})
}

func deletePartition(disk *os.File, number int32) error {
	return blkpg(disk, unix.BLKPG_DEL_PARTITION, unix.BlkpgPartition{Pno: number})
}

func blkpg(disk *os.File, op int32, p unix.BlkpgPartition) error {
	arg := unix.BlkpgIoctlArg{Op: op, Datalen: int32(unsafe.Sizeof(p)), Data: (*byte)(unsafe.Pointer(&p))}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, disk.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return errno
	}
	return nil
}
