package harness

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const tellsTheTime = `package main

import (
	"bufio"
	"fmt"
	"os"
	"time"
)

func main() {
	begun := time.Now()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Println(time.Now().UnixNano(), int64(time.Since(begun)))
	}
}
`

// A process whose clock is set sees another time of day at once, and time passing as ever.
func TestAClockIsSetAndTimePassesAsEver(t *testing.T) {
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "main")
	require.NoError(t, os.WriteFile(source, []byte(tellsTheTime), 0o600))
	BuildShifted(t, source, binary)
	clock := NewClock(t, filepath.Join(dir, "clock"))
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), clock.Env)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	ask := func() (wall time.Time, passed time.Duration) {
		_, err := io.WriteString(in, "\n")
		require.NoError(t, err)
		require.True(t, lines.Scan())
		f := strings.Fields(lines.Text())
		require.Len(t, f, 2)
		ns, err := strconv.ParseInt(f[0], 10, 64)
		require.NoError(t, err)
		since, err := strconv.ParseInt(f[1], 10, 64)
		require.NoError(t, err)
		return time.Unix(0, ns), time.Duration(since)
	}
	first := time.Now()
	_, last := ask()
	for _, ahead := range []time.Duration{0, time.Hour, -1500 * time.Millisecond, -24 * time.Hour, 999_999_999, 0} {
		clock.Set(ahead)
		before := time.Now()
		wall, passed := ask()
		after := time.Now()
		require.False(t, wall.Before(before.Add(ahead).Round(0)), "%s: %s, asked at %s", ahead, wall, before)
		require.False(t, wall.After(after.Add(ahead).Round(0)), "%s: %s, answered at %s", ahead, wall, after)
		require.GreaterOrEqual(t, passed, last)
		require.Less(t, passed, after.Sub(first)+time.Minute, "time did not pass by as much as the clock was set")
		last = passed
	}
}
