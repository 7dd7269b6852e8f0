package journal

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs/vfstest"
)

// classified: whatever the bytes, an error has a kind, and it is not our fault.
func classified(t *testing.T, err error) {
	if err != nil {
		require.NotContains(t, []fault.Kind{fault.Unknown, fault.Bug}, fault.KindOf(err), err)
	}
}

func FuzzMeta(f *testing.F) {
	fs, _ := small(f, Options{Keys: testKeys})
	f.Add(fs.Snapshot()[simDir+"/"+metaName])
	f.Add([]byte(`{"formatVersion":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := parseMeta(b)
		classified(t, err)
	})
}

func FuzzSidecar(f *testing.F) {
	fs, _ := small(f, Options{Keys: testKeys})
	files := fs.Snapshot()
	id, key := [16]byte(files[simDir+"/"+idxName(1)][8:24]), encryption.NewDataKey()
	f.Add(files[simDir+"/"+idxName(1)])
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := vfstest.Restore(map[string][]byte{simDir + "/" + idxName(1): b}, simDir)
		d := directory{fs: fs, dir: simDir, id: id, key: key}
		_, _, err := d.readSidecar(1, true)
		classified(t, err)
	})
}

func FuzzMark(f *testing.F) {
	f.Add(mark{segment: 3, bytes: 77}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := parseMark(b)
		classified(t, err)
	})
}

// FuzzSegment puts any bytes behind a good header: opening finds a prefix of frames or damage, and never more.
func FuzzSegment(f *testing.F) {
	fs, _ := small(f, Options{Keys: testKeys})
	files := fs.Snapshot()
	delete(files, simDir+"/"+segName(2))
	delete(files, simDir+"/"+segName(3))
	delete(files, simDir+"/"+idxName(1))
	delete(files, simDir+"/"+idxName(2))
	files[simDir+"/"+markName] = mark{}.encode()
	tail := simDir + "/" + segName(1)
	header := files[tail][:segHeaderSize]
	f.Add(files[tail][segHeaderSize:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		mine := map[string][]byte{tail: append(header[:len(header):len(header)], b...)}
		for name, content := range files {
			if name != tail {
				mine[name] = content
			}
		}
		fs := vfstest.Restore(mine, simDir)
		j, err := Open(t.Context(), fs, simDir, Options{Keys: testKeys, Log: quiet})
		classified(t, err)
		if err != nil {
			return
		}
		defer func() { require.NoError(t, j.Close()) }()
		require.LessOrEqual(t, j.State().Bytes, int64(len(b)+segHeaderSize))
		if p, err := j.Latest(); err == nil {
			v, err := j.View(t.Context(), p)
			require.NoError(t, err)
			classified(t, v.ReadAt(t.Context(), 0, make([]byte, simDisks[0].Bytes), 0))
		}
	})
}
