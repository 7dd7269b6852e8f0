package consistency

import "golang.org/x/sys/unix"

// _IOWR('X', 119, int) and the next, as most architectures number them.
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

// freeze returns when everything written to the file system is on its disk and nothing more is let through.
func freeze(fd int) error { return unix.IoctlSetInt(fd, fiFreeze, 0) }

// thaw fails with EINVAL when the file system is not frozen.
func thaw(fd int) error { return unix.IoctlSetInt(fd, fiThaw, 0) }
