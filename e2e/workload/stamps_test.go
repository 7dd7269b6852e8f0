package workload

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stampedFiles runs stamped writes over a few files and returns them with their paths.
func stampedFiles(t *testing.T, writes uint64) (*Stamps, []string) {
	t.Helper()
	dir := t.TempDir()
	var targets []Target
	var paths []string
	for i := range 3 {
		target, err := PrepareTarget(filepath.Join(dir, strconv.Itoa(i)), 64)
		require.NoError(t, err)
		target.Most = 1 + i
		targets, paths = append(targets, target), append(paths, target.Path)
	}
	s := NewStamps(34, time.Microsecond, targets...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for s.Written() < writes && ctx.Err() == nil {
		<-tick.C
	}
	cancel()
	require.NoError(t, <-done)
	return s, paths
}

// overwrite puts block i of write n where a copy has something else.
func (s *Stamps) overwrite(t *testing.T, copies []string, target, block int, n uint64, i int) {
	t.Helper()
	f, err := os.OpenFile(copies[target], os.O_WRONLY, 0)
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, StampBlock)
	if n > 0 {
		s.fill(b, n, i)
	}
	_, err = f.WriteAt(b, int64(block)*StampBlock)
	require.NoError(t, err)
}

func TestStampsAcceptWhatIsThere(t *testing.T) {
	s, paths := stampedFiles(t, 500)
	n, err := s.Judge(paths...)
	require.NoError(t, err)
	require.Equal(t, s.Written(), n)
	least, most := s.Around(time.Now())
	require.Equal(t, [2]uint64{n, n}, [2]uint64{least, most})
	least, most = s.Around(time.Unix(0, s.begun[99]))
	require.Contains(t, []uint64{98, 99}, least)
	require.GreaterOrEqual(t, most, uint64(100))
}

// Whatever one write is short of, or ahead by, is found.
func TestStampsFindWhatIsWrong(t *testing.T) {
	s, paths := stampedFiles(t, 500)
	last := s.Written()
	for name, breakIt := range map[string]func() string{
		"the newest write was begun after the copy": func() string {
			s.overwrite(t, paths, 0, 0, last+1, 0)
			return "that were begun"
		},
		"one before the newest is missing": func() string {
			w := s.plan(last - 1)
			s.overwrite(t, paths, w.target, w.first, 1, 0)
			return "it must have block"
		},
		"half of a write is there": func() string {
			n := last
			for s.plan(n).blocks < 2 {
				n--
			}
			w := s.plan(n)
			s.overwrite(t, paths, w.target, w.first+1, 0, 0)
			return "it must have block"
		},
		"it is in another place": func() string {
			w := s.plan(last)
			s.overwrite(t, paths, (w.target+1)%len(paths), 5, last, 0)
			return "it must have block"
		},
		"a copy is short": func() string {
			require.NoError(t, os.Truncate(paths[2], 63*StampBlock))
			return "it ends at block 63 of 64"
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := make([][]byte, len(paths))
			for i, p := range paths {
				var err error
				before[i], err = os.ReadFile(p)
				require.NoError(t, err)
			}
			says := breakIt()
			_, err := s.Judge(paths...)
			require.ErrorContains(t, err, says)
			for i, p := range paths {
				require.NoError(t, os.WriteFile(p, before[i], 0o600))
			}
			_, err = s.Judge(paths...)
			require.NoError(t, err)
		})
	}
}
