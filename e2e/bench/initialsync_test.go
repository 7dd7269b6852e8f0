package bench

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
)

var syncMiB = flag.Int64("sync-mib", 4096, "the disk of BenchmarkInitialSync, which is half full")

// BenchmarkInitialSync is how soon a half-full ext4 disk, which holds programs, texts and what nothing
// compresses, is whole and durable elsewhere, over TLS on loopback, in MiB of used blocks a second:
//
//   - understudy: from the opening of the first epoch until the agent knows that the baseline is durable, which is when the
//     server can be recovered. Registering and connecting before that is reported apart.
//   - nbdcopy into a new qcow2 image that qemu-nbd serves, with a flush in the end.
//   - dd | zstd -1 into a file that is synced in the end, by way of openssl.
//
// Each result is compared with the disk after its time was taken. The file system is not mounted; caches are dropped before each run.
func BenchmarkInitialSync(b *testing.B) {
	s := newFirstCopy(b)
	for b.Loop() {
		contest(b, "MiB/s", contender{"understudy", s.understudy}, contender{"nbdcopy", s.nbdcopy}, contender{"dd-zstd", s.ddZstd})
	}
	b.ReportMetric(float64(s.used)/(1<<20), "used-MiB")
	b.ReportMetric(median(s.whole), "from-start-MiB/s")
	for name, spent := range s.spent {
		b.ReportMetric(median(spent), name+"-cpu-s")
	}
	b.Logf("understudy from the start of the agent's process until it is CONTINUOUS: %s MiB/s; processor seconds: %v", figures(s.whole), s.spent)
}

// firstCopy is the disk to copy.
type firstCopy struct {
	dir   string
	disk  *harness.Disk
	used  int64
	whole []float64
	spent map[string][]float64 // seconds of the processors, of both sides
}

func newFirstCopy(b *testing.B) *firstCopy {
	dir := room(b)
	s := &firstCopy{dir: dir, disk: harness.NewDisk(b, dir, "disk", *syncMiB<<20), spent: map[string][]float64{}}
	s.disk.Format(b, "ext4")
	mount := harness.Mount(b, s.disk.Device, filepath.Join(dir, "mnt"))
	s.used = halfFill(b, mount, *syncMiB<<19)
	harness.Unmount(b, mount)
	return s
}

// rate is what a run comes to that took so long.
func (s *firstCopy) rate(took time.Duration) float64 {
	return float64(s.used) / (1 << 20) / took.Seconds()
}

func (s *firstCopy) spend(name string, d time.Duration) {
	s.spent[name] = append(s.spent[name], d.Seconds())
}

func (s *firstCopy) understudy(b *testing.B) float64 {
	p := prepareProtection(b, s.dir, s.disk)
	defer p.end(b)
	dropCaches(b)
	server, start := cpu(b, p.server.Process), time.Now()
	p.agent.Start(b)
	p.continuous(b)
	s.whole = append(s.whole, s.rate(time.Since(start)))
	s.spend("understudy", cpu(b, p.agent.Process)+cpu(b, p.server.Process)-server)
	log := p.agent.Log()
	took := logged(b, log, "baseline complete").Sub(logged(b, log, "epoch opened"))
	p.recoverable(b)
	p.verify(b, harness.SameContent)
	return s.rate(took)
}

var logTime = regexp.MustCompile(`time=(\S+)`)

// logged is when a message was logged first.
func logged(b *testing.B, log, message string) time.Time {
	b.Helper()
	for line := range strings.Lines(log) {
		if !strings.Contains(line, `msg="`+message+`"`) {
			continue
		}
		m := logTime.FindStringSubmatch(line)
		require.NotNil(b, m, "%s", line)
		t, err := time.Parse(time.RFC3339Nano, m[1])
		require.NoError(b, err)
		return t
	}
	b.Fatalf("%q is not in the log:\n%s", message, log)
	return time.Time{}
}

func (s *firstCopy) nbdcopy(b *testing.B) float64 {
	image := filepath.Join(s.dir, "copy.qcow2")
	defer os.Remove(image)
	qcow2(b, image, s.disk.Bytes, "", "")
	keys := filepath.Join(s.dir, "keys.psk")
	require.NoError(b, os.WriteFile(keys, []byte("bench:"+strings.Repeat("5c", 32)+"\n"), 0o600))
	host, port := freePort(b)
	p := qemuNBDOver(b, "tcp", host+":"+port, image, "--bind="+host, "--port="+port, "--format=qcow2", "--cache=writeback", "--discard=unmap",
		"--object=tls-creds-psk,id=tls,endpoint=server,dir="+s.dir, "--tls-creds=tls")
	defer p.Stop(b)
	dropCaches(b)
	served, start := cpu(b, p), time.Now()
	cmd := command(b, "nbdcopy", "--flush", "--destination-is-zero", s.disk.Device, fmt.Sprintf("nbds://bench@%s:%s/?tls-psk-file=%s", host, port, keys))
	took := time.Since(start)
	s.spend("nbdcopy", used(cmd)+cpu(b, p)-served)
	p.Stop(b)
	same(b, s.disk.Device, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", s.disk.Device, image)
	return s.rate(took)
}

func (s *firstCopy) ddZstd(b *testing.B) float64 {
	file := filepath.Join(s.dir, "copy.zst")
	out, err := os.Create(file)
	require.NoError(b, err)
	defer os.Remove(file)
	defer out.Close()
	p, address := receiveTLS(b, s.dir, out)
	dropCaches(b)
	start := time.Now()
	cmd := command(b, "bash", "-euo", "pipefail", "-c", `dd if="$0" bs=1M status=none | zstd -1 -q | openssl s_client -connect "$1" -tls1_3 -quiet -no_ign_eof -nocommands 2> /dev/null`,
		s.disk.Device, address)
	<-p.Done()
	require.NoError(b, p.Err(), "%s", p.Log())
	require.NoError(b, out.Sync())
	took := time.Since(start)
	s.spend("dd-zstd", used(cmd)+used(p.Cmd))
	same(b, s.disk.Device, "bash", "-euo", "pipefail", "-c", `zstd -dcq "$1" | cmp - "$0"`, s.disk.Device, file)
	return s.rate(took)
}

// same runs a comparison that fails where the two differ.
func same(b *testing.B, device, name string, args ...string) {
	b.Helper()
	harness.Run(b, "blockdev", "--flushbufs", device)
	harness.Run(b, name, args...)
}
