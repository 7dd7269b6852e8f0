package agent

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/fault"
)

func chosen(m capture.Mode, why string) *choice {
	c := &choice{wish: capture.ModeAuto}
	c.now.Store(&capture.Choice{Mode: m, Why: why})
	return c
}

// deny makes features fail, as on a kernel that lacks them.
func deny(t *testing.T, names ...string) {
	t.Helper()
	all := capture.Probe()
	for _, name := range names {
		found := false
		for i := range all {
			if all[i].Name == name {
				all[i].Err, found = fault.New(fault.Unsupported, "probe", "denied by the test").WithHint("do not"), true
			}
		}
		require.True(t, found, name)
	}
	probe = func() []capture.Feature { return all }
	t.Cleanup(func() { probe = capture.Probe })
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it loads BPF programs")
	}
}

// The mode follows from what the kernel lets be done, and says what was missing.
func TestModeFollowsFeatures(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		denied []string
		wish   capture.Mode
		want   capture.Mode // "" when there is none
		why    string
	}{
		{nil, capture.ModeAuto, capture.ModePayload, "the kernel has all it needs"},
		{[]string{"lockdown"}, capture.ModeAuto, capture.ModeBitmap, "no payload: lockdown: probe: denied by the test"},
		{[]string{"BPF ring buffer"}, capture.ModeAuto, capture.ModeBitmap, "BPF ring buffer"},
		{[]string{"capture programs"}, capture.ModeAuto, capture.ModeBitmap, "capture programs"},
		{[]string{"type information (BTF)"}, capture.ModeAuto, capture.ModeScan, "no bitmap: type information (BTF)"},
		{[]string{"block tracepoints"}, capture.ModeAuto, capture.ModeScan, "block tracepoints"},
		{[]string{"BPF file system"}, capture.ModeAuto, capture.ModeScan, "BPF file system"},
		{[]string{"lockdown", "bitmap programs"}, capture.ModeAuto, capture.ModeScan, "no payload: lockdown: probe: denied by the test; no bitmap: bitmap programs"},
		{nil, capture.ModeScan, capture.ModeScan, "as --capture-mode says"},
		{[]string{"lockdown"}, capture.ModeBitmap, capture.ModeBitmap, "as --capture-mode says"},
		{[]string{"lockdown"}, capture.ModePayload, "", "lockdown"},
	} {
		deny(t, c.denied...)
		got, err := chooseMode(Config{CaptureMode: c.wish})
		if c.want == "" {
			require.True(t, fault.Is(err, fault.Unsupported), err)
			require.ErrorContains(t, err, c.why)
			require.Equal(t, "do not", fault.HintOf(err))
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.want, got.get().Mode, "%v", c.denied)
		require.Contains(t, got.get().Why, c.why)
		require.NotContains(t, got.get().Why, "do not", "hints are for errors")
	}
	_, err := chooseMode(Config{CaptureMode: "best"})
	require.True(t, fault.Is(err, fault.Invalid), err)
}

// The doctor warns of a fall-back, and fails what was asked for and cannot be.
func TestDoctorTellsTheMode(t *testing.T) {
	needRoot(t)
	deny(t, "lockdown")
	verdicts := func(wish capture.Mode) map[string]Check {
		var d Diagnosis
		d.kernel(wish, probe())
		all := map[string]Check{}
		for _, c := range d.Checks {
			all[c.Name] = c
		}
		return all
	}
	fallen := verdicts("")
	require.Equal(t, Warning, fallen["kernel: lockdown"].Verdict)
	require.Equal(t, Good, fallen["kernel: bitmap programs"].Verdict)
	require.Equal(t, Warning, fallen["capture mode"].Verdict)
	require.Contains(t, fallen["capture mode"].Found, "bitmap")
	asked := verdicts(capture.ModePayload)
	require.Equal(t, Failed, asked["kernel: lockdown"].Verdict)
	require.Equal(t, Failed, asked["capture mode"].Verdict)
}

// childDisk makes the test binary give up what BPF needs and do what an agent does then.
const childDisk = "UNDERSTUDY_AGENT_CHILD_DISK"

func TestMain(m *testing.M) {
	if path := os.Getenv(childDisk); path != "" {
		if err := withoutBPF(path, os.Getenv("UNDERSTUDY_AGENT_CHILD_DIR")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// withoutBPF chooses a mode and captures one write without the capabilities that BPF takes.
func withoutBPF(path, dir string) error {
	mode, err := chooseMode(Config{CaptureMode: capture.ModeAuto})
	if err != nil {
		return err
	}
	fmt.Println(mode)
	info, err := blockdev.Stat(path)
	if err != nil {
		return err
	}
	e, err := mode.start(capture.Options{PinDir: filepath.Join(dir, "pins"), Owner: "s-1", RingBytes: 1 << 20, Log: slog.New(slog.DiscardHandler),
		Disks: []capture.Disk{{Index: 1, Path: path, Major: info.Dev.Major, Minor: info.Dev.Minor, Bytes: info.Bytes}}})
	if err != nil {
		return err
	}
	fmt.Println(e.Mode(), e.Drops())
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	if err := e.Flip(); err != nil {
		return err
	}
	fmt.Println(e.Drops(), e.DirtyBytes())
	return e.Close()
}

// A process that the kernel really denies BPF falls back to scanning, and that works.
func TestWithoutCapabilitiesItScans(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	disk := loopDisk(t, dir)
	child := exec.Command("setpriv", "--bounding-set=-sys_admin,-bpf,-perfmon", "--inh-caps=-sys_admin,-bpf,-perfmon", "--", os.Args[0])
	child.Env = append(os.Environ(), childDisk+"="+disk, "UNDERSTUDY_AGENT_CHILD_DIR="+dir)
	child.Stderr = t.Output()
	in, err := child.StdinPipe()
	require.NoError(t, err)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
	lines := bufio.NewScanner(out)
	next := func() string {
		require.True(t, lines.Scan(), "the child has ended")
		return lines.Text()
	}
	why := next()
	require.True(t, strings.HasPrefix(why, "scan: no payload: "), why)
	require.Contains(t, why, "; no bitmap: ")
	require.Equal(t, "scan 0", next())
	f, err := os.OpenFile(disk, os.O_WRONLY|unix.O_DIRECT, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(blockdev.AlignedBuffer(4096), 8192)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = in.Write([]byte("\n"))
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("1 %d", 16<<20), next())
	require.NoError(t, child.Wait())
}

func loopDisk(t *testing.T, dir string) string {
	t.Helper()
	file := filepath.Join(dir, "disk")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.Truncate(file, 16<<20))
	b, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	require.NoError(t, err, "%s", b)
	path := strings.TrimSpace(string(b))
	t.Cleanup(func() {
		out, err := exec.Command("losetup", "-d", path).CombinedOutput()
		require.NoError(t, err, "%s", out)
	})
	return path
}

// A fall-back is told in the one free text of the source properties, within its bound; payloads are not mentioned there.
func TestSourcePropertiesTellTheMode(t *testing.T) {
	const os = "Linux version 6.12.0-1-amd64"
	require.Equal(t, os, withMode(os, chosen(capture.ModePayload, "x")))
	require.Equal(t, os+"; understudy captures by bitmap: no payload: lockdown", withMode(os, chosen(capture.ModeBitmap, "no payload: lockdown")))
	require.Equal(t, os+"; understudy captures by scan", withMode(os, chosen(capture.ModeScan, strings.Repeat("long ", 60))))
	require.Len(t, withMode(strings.Repeat("v", 300), chosen(capture.ModeScan, "why")), maxOS)
}

func TestStatusTellsTheMode(t *testing.T) {
	last := time.Now().Add(-time.Minute)
	s := Status{Capture: "bitmap", CaptureWhy: "no payload: lockdown", Updated: time.Now(), Points: &PointStatus{Last: &last, Held: 80, Failed: "swap"},
		Doubts: Doubts{RecursionMisses: map[string]uint64{"on_queue": 3}}, Disks: []DiskStatus{{Device: `/dev/"x`, Missed: 24, Proven: 7}}}
	var text strings.Builder
	s.Print(&text)
	for _, want := range []string{"bitmap: no payload: lockdown", "1m0s ago", "80 ms", "swap", "24 sectors"} {
		require.Contains(t, text.String(), want)
	}
	b, err := json.Marshal(s)
	require.NoError(t, err)
	require.Contains(t, string(b), `"captureWhy":"no payload: lockdown"`)
	m := s.Metrics()
	for _, want := range []string{
		`understudy_agent_capture_mode{mode="bitmap"} 1`, `understudy_agent_recursion_misses_total{program="on_queue"} 3`,
		`understudy_agent_audit_missed_sectors_total{disk="/dev/\"x"} 24`, `understudy_agent_audit_proven_timestamp_seconds{disk="/dev/\"x"} 7`,
		fmt.Sprintf("understudy_agent_last_point_timestamp_seconds %d", last.Unix()), "understudy_agent_held_seconds 0.08",
	} {
		require.Contains(t, m, want+"\n")
	}
}
