package bench

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/e2e/workload"
	"github.com/understudy-dr/understudy/internal/encryption"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/vfs"
)

var (
	storedPoints = flag.Int("stored-points", 12, "points kept, and backups taken, in BenchmarkStored")
	storedEvery  = flag.Duration("stored-every", 10*time.Second, "load between two of them")
)

// BenchmarkStored is what it takes to keep some points of a disk with a PostgreSQL under load and a tree of files under
// churn. The disk is replicated by the agent all the while. At each point the file system is frozen for a moment, and what
// the disk then holds is given to restic and borg to back up as one file, which is how they deduplicate devices.
// In the end the journal is told to keep those points and nothing else, and is compared with each of them.
func BenchmarkStored(b *testing.B) {
	for b.Loop() {
		s := newStored(b)
		for range *storedPoints {
			s.load(b)
			s.point(b)
		}
		s.report(b)
	}
	b.ReportMetric(0, "ns/op")
}

type stored struct {
	dir    string
	disk   *harness.Disk
	mount  string
	server *harness.Server
	agent  *harness.Agent
	id     string
	image  string // what is backed up
	took   []taken
	backup []backup
}

// taken is a point, and what the disk held then.
type taken struct {
	at  time.Time
	sum string
}

// backup is another program's way to keep points.
type backup struct {
	name, repository string
	command          func(image string, n int) []string
}

func newStored(b *testing.B) *stored {
	dir := room(b)
	s := &stored{dir: dir, disk: harness.NewDisk(b, dir, "disk", 1<<30), image: filepath.Join(dir, "image")}
	s.disk.Format(b, "ext4")
	s.mount = harness.Mount(b, s.disk.Device, filepath.Join(dir, "mnt"))
	s.server = harness.NewServer(b, filepath.Join(dir, "server"))
	s.server.InitializeDRS(b)
	s.agent = s.server.NewAgent(b, "drs", filepath.Join(dir, "agent"), []string{s.disk.Device})
	s.id = s.agent.ServerID(b)
	s.server.WaitState(b, s.id, drstypes.DataReplicationStateContinuous, 2*time.Minute)

	files := filepath.Join(s.mount, "files")
	require.NoError(b, os.Mkdir(files, 0o755))
	pg := workload.NewPostgres(b, filepath.Join(s.mount, "pg"), filepath.Join(dir, "socket"))
	require.NoError(b, os.Chmod(dir, 0o755)) // the database's user passes through
	pg.Init(b)
	pg.Start(b)
	pg.Prepare(b)
	pg.Bench(b, filepath.Join(dir, "socket"), 4, 50)
	churn := workload.NewChurn(files, 1, 100*time.Millisecond)
	ended := make(chan error, 1)
	ctx := b.Context()
	go func() { ended <- churn.Run(ctx) }()
	b.Cleanup(func() { require.NoError(b, <-ended) })

	cache := "XDG_CACHE_HOME=" + filepath.Join(dir, "cache")
	borg := func(name, repository, compression string) backup {
		env := []string{"env", cache, "HOME=" + dir, "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes", "BORG_PASSPHRASE=bench", "borg"}
		harness.Run(b, env[0], append(env[1:], "init", "--encryption=repokey-blake2", repository)...)
		return backup{name, repository, func(image string, n int) []string {
			return append(env, "create", "--compression="+compression, fmt.Sprintf("%s::%d", repository, n), image)
		}}
	}
	restic := []string{"env", cache, "RESTIC_PASSWORD=bench", "RESTIC_REPOSITORY=" + filepath.Join(dir, "restic"), "restic", "--quiet"}
	harness.Run(b, restic[0], append(restic[1:], "init")...)
	s.backup = []backup{
		{"restic", filepath.Join(dir, "restic"), func(image string, _ int) []string { return append(restic, "backup", image) }},
		borg("borg", filepath.Join(dir, "borg"), "lz4"), // its default
		borg("borg-zstd", filepath.Join(dir, "borg-zstd"), "zstd,3"),
	}
	return s
}

// load lets the load run for a while.
func (s *stored) load(b *testing.B) {
	select {
	case <-time.After(*storedEvery):
	case <-b.Context().Done():
	}
}

// point freezes the file system, notes the time, copies the disk and backs the copy up.
func (s *stored) point(b *testing.B) {
	b.Helper()
	harness.Run(b, "fsfreeze", "--freeze", s.mount)
	thawed := false
	thaw := func() {
		if !thawed {
			thawed = true
			harness.Run(b, "fsfreeze", "--unfreeze", s.mount)
		}
	}
	defer thaw()
	at := time.Now()
	harness.Run(b, "cp", "--sparse=always", s.disk.File, s.image)
	thaw()
	s.took = append(s.took, taken{at, digest(b, s.image)})
	for _, k := range s.backup {
		args := k.command(s.image, len(s.took))
		harness.Run(b, args[0], args[1:]...)
	}
}

func digest(b *testing.B, path string) string {
	f, err := os.Open(path)
	require.NoError(b, err)
	defer f.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	require.NoError(b, err)
	return hex.EncodeToString(sum.Sum(nil))
}

// report stops everything, lets the journal keep the points only, and compares.
func (s *stored) report(b *testing.B) {
	b.Helper()
	s.load(b) // so that a later watermark covers the last point
	s.agent.Stop(b)
	s.server.Stop(b)
	dir := filepath.Join(s.server.Dir, "journals", s.id)
	keys, err := encryption.OpenKeyFile(filepath.Join(s.server.Dir, "wrapping-keys.json"))
	require.NoError(b, err)
	j, err := journal.Open(b.Context(), vfs.OS, dir, journal.Options{Keys: keys})
	require.NoError(b, err)
	defer j.Close()
	require.NoError(b, compact(b.Context(), j))
	everything := allocated(b, dir)
	points := make([]journal.Point, len(s.took))
	for i, t := range s.took {
		points[i], err = j.At(t.at)
		require.NoError(b, err)
	}
	require.NoError(b, j.Retain(journal.Retention{Since: points[len(points)-1].Time, Points: points}))
	require.NoError(b, compact(b.Context(), j))
	for i, t := range s.took {
		require.Equal(b, t.sum, s.state(b, j, points[i]), "point %d is not what the disk held", i)
	}
	ours := allocated(b, dir)
	b.ReportMetric(float64(everything)/(1<<20), "every-second-MiB")
	b.ReportMetric(float64(ours)/(1<<20), "journal-MiB")
	line := fmt.Sprintf("%d points of a disk of %d MiB\n%-24s %8.1f MiB\n%-24s %8.1f MiB  (every second in between, too)", len(points), s.disk.Bytes>>20,
		"journal", float64(ours)/(1<<20), "journal", float64(everything)/(1<<20))
	for _, k := range s.backup {
		n := allocated(b, k.repository)
		b.ReportMetric(float64(n)/(1<<20), k.name+"-MiB")
		b.ReportMetric(float64(ours)/float64(n), "of-"+k.name)
		line += fmt.Sprintf("\n%-24s %8.1f MiB  journal is at %.2f of it", k.name, float64(n)/(1<<20), float64(ours)/float64(n))
	}
	b.Log(line)
}

// state is the digest of the disk at a point.
func (s *stored) state(b *testing.B, j *journal.Journal, p journal.Point) string {
	v, err := j.View(b.Context(), p)
	require.NoError(b, err)
	defer v.Close()
	sum := sha256.New()
	buf := make([]byte, 1<<20)
	for off := int64(0); off < s.disk.Bytes; off += int64(len(buf)) {
		require.NoError(b, v.ReadAt(b.Context(), v.Disks()[0].Index, buf, off))
		sum.Write(buf)
	}
	return hex.EncodeToString(sum.Sum(nil))
}
