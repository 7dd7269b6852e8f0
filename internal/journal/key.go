package journal

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/zeebo/xxh3"

	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// keyName is the file that holds the journal's data key, wrapped. Without it the journal cannot be read, so it is the
// last that is made and the first that is removed.
const keyName = "key.json"

// keyFile is key.json. It is replaced when the wrapping key is rotated.
type keyFile struct {
	Format  int                `json:"formatVersion"`
	Wrapped encryption.Wrapped `json:"wrapped"`
	Sum     string             `json:"xxh3"` // of this document with an empty sum, re-encoded
}

const keyFormat = 1

func newSalt() (salt [encryption.SaltSize]byte) {
	_, _ = rand.Read(salt[:]) // never fails, by its contract
	return salt
}

func errNoProvider(dir string) error {
	return fault.New(fault.Invalid, "journal: open "+dir, "no key provider is configured")
}

// makeKey gives a new journal its data key.
func makeKey(ctx context.Context, fsys vfs.FS, dir string, m meta, p encryption.Provider) error {
	if p == nil {
		return errNoProvider(dir)
	}
	id := m.idBytes()
	w, err := p.Wrap(ctx, encryption.NewDataKey().Bytes(), id[:])
	if err != nil {
		return fault.Wrap("journal: create "+dir, err)
	}
	return writeKey(fsys, dir, w)
}

func writeKey(fsys vfs.FS, dir string, w encryption.Wrapped) error {
	b, err := keyFile{Format: keyFormat, Wrapped: w}.encode()
	if err != nil {
		return err
	}
	return vfs.Fault("journal: "+keyName, vfs.WriteAtomic(fsys, filepath.Join(dir, keyName), b))
}

func (k keyFile) encode() ([]byte, error) {
	k.Sum = ""
	plain, err := json.Marshal(k)
	if err != nil {
		return nil, fault.New(fault.Bug, "journal: encode "+keyName, "%w", err)
	}
	k.Sum = fmt.Sprintf("%016x", xxh3.Hash(plain))
	b, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return nil, fault.New(fault.Bug, "journal: encode "+keyName, "%w", err)
	}
	return append(b, '\n'), nil
}

func readKey(fsys vfs.FS, dir string) (encryption.Wrapped, error) {
	b, err := vfs.ReadFile(fsys, filepath.Join(dir, keyName), maxMeta)
	if err != nil {
		return encryption.Wrapped{}, vfs.Fault("journal: open "+dir, err)
	}
	return parseKey(b)
}

func parseKey(b []byte) (encryption.Wrapped, error) {
	var k keyFile
	if err := json.Unmarshal(b, &k); err != nil {
		return k.Wrapped, fault.New(fault.Corruption, "journal: "+keyName, "%w", err)
	}
	if k.Format != keyFormat {
		return k.Wrapped, fault.New(fault.Unsupported, "journal: "+keyName, "format %d, this build reads %d", k.Format, keyFormat)
	}
	if again, err := k.encode(); err != nil || !bytes.Equal(again, b) {
		return k.Wrapped, fault.New(fault.Corruption, "journal: "+keyName, "does not match its checksum")
	}
	return k.Wrapped, nil
}

// unlock unwraps the data key.
func (d *directory) unlock(ctx context.Context, p encryption.Provider) error {
	if p == nil {
		return errNoProvider(d.dir)
	}
	w, err := readKey(d.fs, d.dir)
	if err != nil {
		return err
	}
	b, err := p.Unwrap(ctx, w, d.id[:])
	if err != nil {
		return fault.Wrap("journal: open "+d.dir, err)
	}
	defer clear(b)
	d.key, err = encryption.ParseDataKey(b)
	return err
}
