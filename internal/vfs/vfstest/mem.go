// Package vfstest is a file system in memory for tests of whatever must survive a crash: it can pull the plug and
// keep only what was synced (and a random part of the rest, torn at sectors), fail any operation, and run out of space.
//
// Only tests import it.
package vfstest

import (
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// Op is one operation that is about to happen.
type Op struct {
	N    int    // counts from 1
	Kind string // create, open, write, truncate, sync, rename, remove, list, syncdir, lock
	Name string
	Off  int64
	Len  int
}

// MemFS implements vfs.FS. Its zero value is not usable; see New.
type MemFS struct {
	mu       sync.Mutex
	names    map[string]*inode // as a running system sees them
	durable  map[string]*inode // as they are after a crash
	pending  map[string][]dirOp
	dirs     map[string]bool
	locks    map[string]bool
	capacity int64
	ops      int
	hook     func(Op) error
}

type dirOp struct {
	remove string
	add    string
	node   *inode
}

type inode struct {
	data   []byte // as a running system sees it
	synced []byte
	ops    []fileOp // since the last sync
	bad    []badRange
}

type fileOp struct {
	truncate bool
	size     int64 // of truncate
	off      int64
	data     []byte
	lost     bool // a sync failed over it: clean in the cache, maybe not on the disk
}

// New returns an empty file system with unlimited room.
func New() *MemFS {
	return &MemFS{
		names: map[string]*inode{}, durable: map[string]*inode{}, pending: map[string][]dirOp{},
		dirs: map[string]bool{"/": true, ".": true}, locks: map[string]bool{}, capacity: 1 << 40,
	}
}

// OnOp sets a hook that sees every operation before it happens; its error fails the operation. A write that fails
// leaves its first half behind, a sync that fails leaves its data in the cache only, as Linux does.
func (m *MemFS) OnOp(hook func(Op) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hook = hook
}

// SetCapacity limits the sum of all file sizes.
func (m *MemFS) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// Used is the sum of all file sizes.
func (m *MemFS) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used()
}

// Ops counts the operations so far.
func (m *MemFS) Ops() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

func (m *MemFS) used() int64 {
	n := int64(0)
	for _, node := range m.names {
		n += int64(len(node.data))
	}
	return n
}

func (m *MemFS) begin(kind, name string, off int64, n int) error {
	m.ops++
	if m.hook == nil {
		return nil
	}
	return m.hook(Op{N: m.ops, Kind: kind, Name: name, Off: off, Len: n})
}

func pathError(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// Create implements vfs.FS.
func (m *MemFS) Create(name string) (vfs.File, error) {
	name = filepath.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin("create", name, 0, 0); err != nil {
		return nil, err
	}
	if !m.dirs[filepath.Dir(name)] {
		return nil, pathError("create", name, fs.ErrNotExist)
	}
	if m.names[name] != nil {
		return nil, pathError("create", name, fs.ErrExist)
	}
	node := &inode{}
	m.names[name] = node
	m.note(name, dirOp{add: name, node: node})
	return &memFile{fs: m, node: node, name: name, write: true}, nil
}

func (m *MemFS) note(name string, op dirOp) {
	dir := filepath.Dir(name)
	m.pending[dir] = append(m.pending[dir], op)
}

// Open implements vfs.FS.
func (m *MemFS) Open(name string) (vfs.File, error) { return m.open(name, false) }

// OpenWrite implements vfs.FS.
func (m *MemFS) OpenWrite(name string) (vfs.File, error) { return m.open(name, true) }

func (m *MemFS) open(name string, write bool) (vfs.File, error) {
	name = filepath.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin("open", name, 0, 0); err != nil {
		return nil, err
	}
	node := m.names[name]
	if node == nil {
		return nil, pathError("open", name, fs.ErrNotExist)
	}
	return &memFile{fs: m, node: node, name: name, write: write}, nil
}

// Rename implements vfs.FS.
func (m *MemFS) Rename(oldName, newName string) error {
	oldName, newName = filepath.Clean(oldName), filepath.Clean(newName)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin("rename", newName, 0, 0); err != nil {
		return err
	}
	node := m.names[oldName]
	if node == nil {
		return pathError("rename", oldName, fs.ErrNotExist)
	}
	delete(m.names, oldName)
	m.names[newName] = node
	m.note(newName, dirOp{remove: oldName, add: newName, node: node})
	return nil
}

// Remove implements vfs.FS.
func (m *MemFS) Remove(name string) error {
	name = filepath.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin("remove", name, 0, 0); err != nil {
		return err
	}
	if m.dirs[name] {
		if len(m.list(name)) > 0 {
			return pathError("remove", name, syscall.ENOTEMPTY)
		}
		delete(m.dirs, name)
		return nil
	}
	if m.names[name] == nil {
		return pathError("remove", name, fs.ErrNotExist)
	}
	delete(m.names, name)
	m.note(name, dirOp{remove: name})
	return nil
}

// List implements vfs.FS.
func (m *MemFS) List(dir string) ([]string, error) {
	dir = filepath.Clean(dir)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin("list", dir, 0, 0); err != nil {
		return nil, err
	}
	if !m.dirs[dir] {
		return nil, pathError("list", dir, fs.ErrNotExist)
	}
	return m.list(dir), nil
}

func (m *MemFS) list(dir string) []string {
	var names []string
	add := func(name string) {
		if name != dir && filepath.Dir(name) == dir {
			names = append(names, strings.TrimPrefix(name, dir+"/"))
		}
	}
	for name := range m.names {
		add(name)
	}
	for name := range m.dirs {
		add(name)
	}
	slices.Sort(names)
	return names
}

// MkdirAll implements vfs.FS. Directories are durable at once.
func (m *MemFS) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for d := filepath.Clean(dir); !m.dirs[d]; d = filepath.Dir(d) {
		m.dirs[d] = true
	}
	return nil
}

// Stat implements vfs.FS.
func (m *MemFS) Stat(name string) (vfs.Info, error) {
	name = filepath.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dirs[name] {
		return vfs.Info{Dir: true}, nil
	}
	if node := m.names[name]; node != nil {
		return vfs.Info{Size: int64(len(node.data))}, nil
	}
	return vfs.Info{}, pathError("stat", name, fs.ErrNotExist)
}

// SyncDir implements vfs.FS.
func (m *MemFS) SyncDir(dir string) error {
	dir = filepath.Clean(dir)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin("syncdir", dir, 0, 0); err != nil {
		return err
	}
	for _, op := range m.pending[dir] {
		op.apply(m.durable)
	}
	delete(m.pending, dir)
	return nil
}

func (op dirOp) apply(names map[string]*inode) {
	delete(names, op.remove)
	if op.add != "" {
		names[op.add] = op.node
	}
}

// Free implements vfs.FS.
func (m *MemFS) Free(string) (vfs.Space, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return vfs.Space{Free: max(0, m.capacity-m.used()), Total: m.capacity}, nil
}

// Lock implements vfs.FS. The lock's file itself is not shown.
func (m *MemFS) Lock(name string) (io.Closer, error) {
	name = filepath.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin("lock", name, 0, 0); err != nil {
		return nil, err
	}
	if m.locks[name] {
		return nil, fault.New(fault.Conflict, "vfstest: lock "+name, "held")
	}
	m.locks[name] = true
	return unlock(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.locks, name)
	}), nil
}

type unlock func()

func (u unlock) Close() error {
	u()
	return nil
}
