package vfs

import "golang.org/x/sys/unix"

// AtRandom tells the system that a file is read here and there: it reads what it is asked for then, and nothing behind that on a guess. Who
// knows better says so with WillNeed. Both are advice: where it cannot be given, nothing but time is lost.
func AtRandom(f File) { advise(f, 0, 0, unix.FADV_RANDOM) }

// WillNeed has the system begin to read a part of a file that is about to be asked for.
func WillNeed(f File, off, length int64) { advise(f, off, length, unix.FADV_WILLNEED) }

func advise(f File, off, length int64, advice int) {
	if f, ok := f.(osFile); ok {
		_ = unix.Fadvise(int(f.Fd()), off, length, advice)
	}
}
