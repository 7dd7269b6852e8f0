package vfstest

import (
	"io"
	"io/fs"
	"math"
	"slices"
	"syscall"
)

type memFile struct {
	fs     *MemFS
	node   *inode
	name   string
	write  bool
	closed bool
}

func (f *memFile) check(kind string, off int64, n int) error {
	if f.closed {
		return pathError(kind, f.name, fs.ErrClosed)
	}
	if !f.write && kind != "read" {
		return pathError(kind, f.name, syscall.EBADF)
	}
	if kind == "read" {
		return nil
	}
	return f.fs.begin(kind, f.name, off, n)
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("read", off, len(p)); err != nil {
		return 0, err
	}
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if have, bad := f.node.stops(off, int64(n)); bad {
		return int(have), pathError("read", f.name, syscall.EIO)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	err := f.check("write", off, len(p))
	if f.closed || !f.write {
		return 0, err
	}
	if err != nil {
		p = p[:len(p)/2]
	} else if grow := off + int64(len(p)) - int64(len(f.node.data)); grow > 0 {
		if free := f.fs.capacity - f.fs.used(); grow > free {
			p = p[:max(0, int64(len(p))-(grow-max(0, free)))]
			err = pathError("write", f.name, syscall.ENOSPC)
		}
	}
	if len(p) > 0 {
		op := fileOp{off: off, data: slices.Clone(p)}
		f.node.ops = append(f.node.ops, op)
		f.node.data = op.apply(f.node.data)
		f.node.mend(off, off+int64(len(p)))
	}
	return len(p), err
}

func (f *memFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("truncate", size, 0); err != nil {
		return err
	}
	op := fileOp{truncate: true, size: size}
	f.node.ops = append(f.node.ops, op)
	f.node.data = op.apply(f.node.data)
	f.node.mend(size, math.MaxInt64)
	return nil
}

func (f *memFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("sync", 0, 0); err != nil {
		for i := range f.node.ops {
			f.node.ops[i].lost = true
		}
		return err
	}
	for _, op := range f.node.ops {
		if op.lost && !op.truncate { // only its effect on the size survives
			op = fileOp{truncate: true, size: max(int64(len(f.node.synced)), op.off+int64(len(op.data)))}
		}
		f.node.synced = op.apply(f.node.synced)
	}
	f.node.ops = nil
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.node.data)), nil
}

func (f *memFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return pathError("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	return nil
}

func (op fileOp) apply(data []byte) []byte {
	if op.truncate {
		return resize(data, op.size)
	}
	data = resize(data, max(int64(len(data)), op.off+int64(len(op.data))))
	copy(data[op.off:], op.data)
	return data
}

func resize(data []byte, size int64) []byte {
	if size <= int64(len(data)) {
		return data[:size:size]
	}
	if size <= int64(cap(data)) {
		return data[:size] // a shrunk slice has no spare room, so what follows is still zero
	}
	grown := make([]byte, size, max(size, int64(cap(data))*2))
	copy(grown, data)
	return grown
}
