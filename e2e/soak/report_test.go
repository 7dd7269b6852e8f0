package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/drs"
	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"
)

// openLog has all processes write to one file, between what the test says. It stays when the test fails, and when somebody asked for it.
func (l *lab) openLog() {
	const asked = "UNDERSTUDY_E2E_LOG"
	name := os.Getenv(asked)
	if name == "" {
		name = filepath.Join(filepath.Dir(os.Getenv("TMPDIR")), fmt.Sprintf("understudy-soak-%d.log", l.seed))
		l.t.Setenv(asked, name)
		l.t.Cleanup(func() {
			if !l.t.Failed() {
				require.NoError(l.t, os.Remove(name))
			}
		})
	}
	var err error
	l.log, err = os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(l.t, err)
	l.t.Cleanup(func() { l.log.Close() })
	l.t.Logf("what all processes print: %s", name)
}

// logf says when, from the beginning.
func (l *lab) logf(format string, args ...any) {
	l.t.Helper()
	said := fmt.Sprintf("%7.1fs  "+format, append([]any{time.Since(l.born).Seconds()}, args...)...)
	l.t.Log(said)
	fmt.Fprintf(l.log, "soak %s %s\n", time.Now().UTC().Format(time.RFC3339Nano), said)
}

// report says, when it failed, what is needed to find out why. It comes before anything is cleaned up.
func (l *lab) report() {
	if !l.t.Failed() {
		return
	}
	l.logf("FAILED; UNDERSTUDY_SEED=%d; log: %s", l.seed, l.log.Name())
	l.t.Logf("faults so far:\n%s", strings.Join(l.told, "\n"))
	l.t.Logf("the server says: %s", l.serverSays())
	status, err := os.ReadFile(filepath.Join(l.dir, "agent", "status.json"))
	l.t.Logf("the agent said: %s %v", status, err)
	l.t.Logf("the agent's clock: %s", l.agentClock)
	l.t.Logf("the server's clock: %s", l.serverClock)
}

func (l *lab) serverSays() string {
	if l.api == nil {
		return "not started"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := l.api.DescribeSourceServers(ctx, &drs.DescribeSourceServersInput{
		Filters: &drstypes.DescribeSourceServersRequestFilters{SourceServerIDs: []string{l.id}}})
	if err != nil {
		return err.Error()
	}
	var said []byte
	for _, s := range out.Items {
		if said, err = json.Marshal(s.DataReplicationInfo); err != nil {
			return err.Error()
		}
	}
	points, err := l.server.TryCLI(ctx, "points", l.id)
	return fmt.Sprintf("%s\n%s %v", said, points, err)
}

func (l *lab) summary(d time.Duration) {
	t := l.t
	for _, name := range slices.Sorted(maps.Keys(l.broken)) {
		l.logf("%3d times: %s", l.broken[name], name)
	}
	l.logf("states seen: %v", l.states)
	l.logf("%d points proven, of %d epochs; %d times a point was gone before it was read; slowest recovery %s; %s in all", l.verified, len(l.epochs),
		l.again, l.slowest.Round(time.Second), time.Since(l.born).Round(time.Second))
	for _, f := range faults {
		if l.broken[f.name] == 0 {
			l.logf("there was no time for: %s", f.name)
		}
	}
	if d < long {
		return // a slow machine may not come to everything
	}
	require.Len(t, l.broken, len(faults), "every fault happened")
	require.Greater(t, len(l.epochs), 1, "order was given up and found again")
	require.Greater(t, l.verified, 10)
}

// long is a soak in which everything happens on any machine.
const long = 30 * time.Minute
