package journal

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
	"github.com/understudy-dr/understudy/internal/wire"
)

// Names in a journal's directory.
const (
	metaName = "journal.json"
	lockName = "lock"
)

// The formats of a journal's directory, newest first and never renumbered.
//
//	3  epochs may have disks of their own: tables in the catalogue and in summaries of sidecars
//	2  key.json, catalogue, layers, timelines; segments and index sidecars are enciphered
//	1  journal.json, tail.mark, segments of verbatim frames, index sidecars
const (
	FormatV1 = 1
	FormatV2 = 2
	FormatV3 = 3
)

const maxMeta = 1 << 20

// meta is journal.json: written by Create, and by the first opening by a build of a newer format.
type meta struct {
	Format  int         `json:"formatVersion"`
	ID      string      `json:"id"` // 32 hex digits
	Created time.Time   `json:"created"`
	Disks   []wire.Disk `json:"disks"`            // that it was made for; see table
	Parent  *parentRef  `json:"parent,omitempty"` // of a branch
	Sum     string      `json:"xxh3"`             // of this document with an empty sum, re-encoded
}

func newMeta(disks []wire.Disk) (meta, error) {
	if len(disks) == 0 {
		return meta{}, fault.New(fault.Invalid, "journal: create", "no disks")
	}
	sorted, err := sortDisks(disks)
	if err != nil {
		return meta{}, fault.Wrap("journal: create", err)
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails, by its contract
	return meta{Format: FormatV3, ID: hex.EncodeToString(id[:]), Created: time.Now().UTC().Truncate(time.Second), Disks: sorted}, nil
}

func (m meta) sum() (string, error) {
	m.Sum = ""
	b, err := json.Marshal(m)
	if err != nil {
		return "", fault.New(fault.Bug, "journal: encode "+metaName, "%w", err)
	}
	return fmt.Sprintf("%016x", xxh3.Hash(b)), nil
}

func (m meta) encode() ([]byte, error) {
	sum, err := m.sum()
	if err != nil {
		return nil, err
	}
	m.Sum = sum
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fault.New(fault.Bug, "journal: encode "+metaName, "%w", err)
	}
	return append(b, '\n'), nil
}

func parseMeta(b []byte) (meta, error) {
	var m meta
	var version struct {
		Format int `json:"formatVersion"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return m, fault.New(fault.Corruption, "journal: "+metaName, "%w", err)
	}
	if version.Format > FormatV3 {
		return m, fault.New(fault.Unsupported, "journal: "+metaName, "format %d, this build reads up to %d", version.Format, FormatV3).
			WithHint("open it with the version that wrote it, or a later one")
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fault.New(fault.Corruption, "journal: "+metaName, "%w", err)
	}
	sum, err := m.sum()
	if err != nil {
		return m, err
	}
	again, err := m.encode()
	if err != nil {
		return m, err
	}
	// The exact bytes are compared too: a damaged name of a field whose value is zero changes no sum.
	if id, err := hex.DecodeString(m.ID); sum != m.Sum || !bytes.Equal(again, b) || err != nil || len(id) != 16 || m.Format < FormatV1 {
		return m, fault.New(fault.Corruption, "journal: "+metaName, "checksum %s, file says %s", sum, m.Sum)
	}
	return m, nil
}

func readMeta(fs vfs.FS, dir string) (meta, error) {
	name := filepath.Join(dir, metaName)
	b, err := vfs.ReadFile(fs, name, maxMeta)
	if err != nil {
		return meta{}, vfs.Fault("journal: open "+name, err)
	}
	m, err := parseMeta(b)
	if err != nil {
		return m, fault.Wrap("journal: open "+name, err)
	}
	return m, nil
}

func (m meta) idBytes() (id [16]byte) {
	b, _ := hex.DecodeString(m.ID) // checked by parseMeta
	copy(id[:], b)
	return id
}
