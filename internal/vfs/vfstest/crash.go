package vfstest

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
)

// ErrCrashed is what every operation returns once the plug is pulled.
var ErrCrashed = errors.New("vfstest: the machine has lost power")

const sector = 512

// CrashAt makes the n-th operation from now on, and all after it, fail.
func (m *MemFS) CrashAt(n int) {
	at := m.Ops() + n
	m.OnOp(func(op Op) error {
		if op.N >= at {
			return ErrCrashed
		}
		return nil
	})
}

// Crash returns the file system as the next boot finds it: what was synced, and of what was not, a random part of the
// directory changes in their order and of the data sectors in any order. m itself stays as it is.
func (m *MemFS) Crash(rng *rand.Rand) *MemFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := New()
	next.capacity = m.capacity
	maps.Copy(next.dirs, m.dirs)
	names := maps.Clone(m.durable)
	for _, dir := range slices.Sorted(maps.Keys(m.pending)) {
		ops := m.pending[dir]
		for _, op := range ops[:rng.IntN(len(ops)+1)] {
			op.apply(names)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		data := names[name].crash(rng)
		node := &inode{data: data, synced: slices.Clone(data), bad: slices.Clone(names[name].bad)}
		next.names[name], next.durable[name] = node, node
	}
	return next
}

// crash applies sizes in order up to some operation, and any sectors of any write that fit the size.
func (n *inode) crash(rng *rand.Rand) []byte {
	data := slices.Clone(n.synced)
	sized := rng.IntN(len(n.ops) + 1)
	for i, op := range n.ops {
		switch {
		case op.truncate && i < sized:
			data = op.apply(data)
		case !op.truncate:
			if end := op.off + int64(len(op.data)); i < sized && end > int64(len(data)) {
				data = resize(data, end)
			}
			op.tear(rng, data)
		}
	}
	return data
}

func (op fileOp) tear(rng *rand.Rand, data []byte) {
	all := rng.IntN(3) == 0 // often nothing is torn
	for at := int64(0); at < int64(len(op.data)); {
		end := min(int64(len(op.data)), at+sector-(op.off+at)%sector)
		if (all || rng.IntN(2) == 0) && op.off+at < int64(len(data)) {
			copy(data[op.off+at:], op.data[at:end])
		}
		at = end
	}
}

// Snapshot copies the running system's files, by name; Restore is its inverse on a new file system.
func (m *MemFS) Snapshot() map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	files := make(map[string][]byte, len(m.names))
	for name, node := range m.names {
		files[name] = slices.Clone(node.data)
	}
	return files
}

// Restore returns a file system with these files, all durable, and the given directories.
func Restore(files map[string][]byte, dirs ...string) *MemFS {
	m := New()
	for _, d := range dirs {
		_ = m.MkdirAll(d)
	}
	for name, data := range files {
		node := &inode{data: slices.Clone(data), synced: slices.Clone(data)}
		m.names[name], m.durable[name] = node, node
	}
	return m
}
