package capture

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

func ioctlRange(f *os.File, request uintptr, start, length int64) error {
	arg := [2]uint64{uint64(start), uint64(length)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return errno
	}
	return nil
}

func hugeOffset(mem []byte) int { return int(uintptr(unsafe.Pointer(&mem[0])) & (2<<20 - 1)) }
