package blob

import (
	"context"
	"strings"
)

// Sub is the part of s below prefix, with names of its own: one journal's part of a shared bucket. An empty prefix is
// all of s.
func Sub(s Store, prefix string) Store {
	prefix = strings.Trim(prefix, "/")
	if prefix == "" {
		return s
	}
	return sub{store: s, prefix: prefix + "/"}
}

type sub struct {
	store  Store
	prefix string
}

// Create implements Store.
func (s sub) Create(ctx context.Context, name string) (Writer, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	return s.store.Create(ctx, s.prefix+name)
}

// ReadAt implements Store.
func (s sub) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	if err := CheckName(name); err != nil {
		return err
	}
	return s.store.ReadAt(ctx, s.prefix+name, p, off)
}

// Stat implements Store.
func (s sub) Stat(ctx context.Context, name string) (int64, error) {
	if err := CheckName(name); err != nil {
		return 0, err
	}
	return s.store.Stat(ctx, s.prefix+name)
}

// List implements Store.
func (s sub) List(ctx context.Context, prefix string) ([]Info, error) {
	if err := CheckPrefix(prefix); err != nil {
		return nil, err
	}
	infos, err := s.store.List(ctx, s.prefix+prefix)
	for i := range infos {
		infos[i].Name = strings.TrimPrefix(infos[i].Name, s.prefix)
	}
	return infos, err
}

// Delete implements Store.
func (s sub) Delete(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	return s.store.Delete(ctx, s.prefix+name)
}
