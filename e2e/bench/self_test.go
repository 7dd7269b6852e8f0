package bench

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/journal"
	"github.com/understudy-dr/understudy/internal/nbd"
	"github.com/understudy-dr/understudy/internal/volume"
)

// The benchmarks start this test binary again where work must be done in a process of its own: a server, as qemu-nbd is
// one; a writer that is killed; a process whose memory is measured.
const (
	envSelf = "UNDERSTUDY_BENCH_SELF" // which of these, and its arguments, parted by blanks
	envCPU  = "UNDERSTUDY_BENCH_CPU"  // where the server writes its profile
	modeNBD = "nbd"                   // directory of a journal, socket
	modeAdd = "append"                // directory of a journal
	modeBig = "fill"                  // directory of a journal, GiB
)

var profile = flag.String("profile", "", "the understudy server writes its CPU profile here; the last one to end wins")

func TestMain(m *testing.M) {
	args := strings.Fields(os.Getenv(envSelf))
	if len(args) == 0 {
		os.Exit(m.Run())
	}
	err := fmt.Errorf("unknown mode %v", args)
	switch args[0] {
	case modeNBD:
		err = serve(args[1], args[2])
	case modeAdd:
		err = appendUntilKilled(args[1])
	case modeBig:
		err = fillSparse(args[1], args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// self is this binary in another mode.
func self(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envSelf+"="+strings.Join(args, " "), envCPU+"="+*profile)
	return cmd
}

// understudy serves a journal, which nobody else has open, on a socket.
func understudy(b *testing.B, socket, dir string) *harness.Process {
	b.Helper()
	p := harness.Start(b, "understudy", self(modeNBD, dir, socket))
	answers(b, p, socket)
	return p
}

// output runs this binary in another mode to its end.
func output(b *testing.B, args ...string) string {
	b.Helper()
	out, err := self(args...).CombinedOutput()
	require.NoError(b, err, "%s", out)
	return string(out)
}

// heapSays is how the server answers SIGUSR1.
const heapSays = "live heap in bytes: "

// serve exports the first disk of a journal at its newest position until SIGTERM.
func serve(dir, socket string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	if path := os.Getenv(envCPU); path != "" {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	j, err := open(ctx, dir)
	if err != nil {
		return err
	}
	defer j.Close()
	o := volume.NewOpener(func(string) (*journal.Journal, error) { return j, nil })
	defer o.Close()
	v, err := o.Open(ctx, "bench", 0, volume.Choice{})
	if err != nil {
		return err
	}
	defer v.Close()
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	ask := make(chan os.Signal, 1)
	signal.Notify(ask, unix.SIGUSR1)
	go func() {
		<-ask // ends with the process
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Println(heapSays + strconv.FormatUint(m.HeapAlloc, 10))
	}()
	s := nbd.Server{Exports: nbd.Static(nbd.Export{Backend: shown{v}, ReadOnly: true})}
	return s.Serve(ctx, l)
}

// shown is a volume as the NBD server wants it.
type shown struct{ *volume.Volume }

func (s shown) Extents(ctx context.Context, off, length int64) ([]nbd.Extent, error) {
	extents, err := s.Volume.Extents(ctx, off, length)
	out := make([]nbd.Extent, len(extents))
	for i, e := range extents {
		out[i] = nbd.Extent{Length: e.Length, Hole: e.Hole}
	}
	return out, err
}
