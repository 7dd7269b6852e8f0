package nbd

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if seed := os.Getenv("UNDERSTUDY_SEED"); seed != "" {
		if err := flag.Set("rapid.seed", seed); err != nil {
			fmt.Fprintln(os.Stderr, "UNDERSTUDY_SEED:", err)
			os.Exit(2)
		}
	}
	code := m.Run()
	if left := leaked(); left != "" && code == 0 {
		fmt.Fprintf(os.Stderr, "goroutines left behind:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// leaked waits for this package's goroutines to end and returns the stacks of those that do not.
func leaked() string {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var left string
	for range 200 {
		if left = ours(); left == "" {
			return ""
		}
		<-tick.C
	}
	return left
}

func ours() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for i, g := range strings.Split(string(buf), "\n\n") {
		// The first is the one asking.
		if i > 0 && strings.Contains(g, "internal/nbd.") && !strings.Contains(g, "testing.(*F).Fuzz") {
			left = append(left, g)
		}
	}
	return strings.Join(left, "\n\n")
}
