package blockdev

import "unsafe"

// alignment suits every logical block size and every driver's buffer rule.
const alignment = 4096

// AlignedBuffer is n bytes of zeros whose address suits direct I/O. The garbage collector frees it.
func AlignedBuffer(n int) []byte {
	b := make([]byte, n+alignment)
	skip := int(-address(b) & (alignment - 1))
	return b[skip : skip+n : skip+n]
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
