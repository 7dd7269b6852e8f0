package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/drs"
	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/aws/aws-sdk-go-v2/service/mgn"
	mgntypes "github.com/aws/aws-sdk-go-v2/service/mgn/types"
	"github.com/aws/smithy-go/middleware"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/state/statetest"
)

// Rounds of each client, and the longest time that the control plane lives meanwhile.
const (
	killRounds  = 3
	longestLife = 4 * time.Second
)

// listener is told of events, at times in vain.
type listener struct {
	mu    sync.Mutex
	heard []string // ids, as they came
	calls int
}

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = append(l.heard, r.Header.Get("webhook-id"))
	if l.calls++; l.calls%5 == 3 {
		w.WriteHeader(http.StatusServiceUnavailable) // it heard, and says that it did not
	}
}

// patient is a client who asks until it was told that something was done, or sees that it is.
type patient struct {
	ctx  context.Context
	drs  *drs.Client
	mgn  *mgn.Client
	id   string   // of a source server with an agent
	dir  string   // of the bucket
	told []string // ids of the requests that were said to have changed something
	lost bool     // it gave up: what comes after is not asked for
}

const patientFor = 3 * time.Minute

func (c *patient) note(m middleware.Metadata) {
	if id, ok := awsmiddleware.GetRequestIDMetadata(m); ok {
		c.told = append(c.told, id)
	}
}

// call asks. What was acknowledged is not asked for again; it must be seen in the end.
func (c *patient) call(what string, do func(context.Context) (middleware.Metadata, error), seen func(context.Context) (bool, error)) error {
	if c.lost {
		return nil
	}
	told := do == nil
	limit := time.NewTimer(patientFor)
	defer limit.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		ctx, cancel := context.WithTimeout(c.ctx, 10*time.Second)
		done, err := told, error(nil)
		if seen != nil {
			if done, err = seen(ctx); err != nil {
				last = err
			}
		}
		if err == nil && !done && !told {
			var m middleware.Metadata
			if m, last = do(ctx); last == nil {
				told = true
				c.note(m)
			}
		}
		cancel()
		if done {
			return nil
		}
		select {
		case <-tick.C:
		case <-limit.C:
			c.lost = true
			return fmt.Errorf("%s: told %t, at last: %w", what, told, last)
		case <-c.ctx.Done():
			c.lost = true
			return c.ctx.Err()
		}
	}
}

func (c *patient) server(ctx context.Context) (drstypes.SourceServer, error) {
	out, err := c.drs.DescribeSourceServers(ctx, &drs.DescribeSourceServersInput{Filters: &drstypes.DescribeSourceServersRequestFilters{SourceServerIDs: []string{c.id}}})
	if err != nil {
		return drstypes.SourceServer{}, err
	}
	if len(out.Items) != 1 {
		return drstypes.SourceServer{}, fmt.Errorf("%d servers", len(out.Items))
	}
	return out.Items[0], nil
}

// is tells whether replication is, or is not, in a state.
func (c *patient) is(want drstypes.DataReplicationState, yes bool) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		s, err := c.server(ctx)
		return err == nil && (s.DataReplicationInfo.DataReplicationState == want) == yes, err
	}
}

// protect takes the source server through stop and start, and a source network through its life.
func (c *patient) protect(round int) error {
	key := fmt.Sprint("round-", round)
	arn := "arn:aws:drs:" + harness.Region + ":" + harness.Account + ":source-server/" + c.id
	return errors.Join(
		c.call("tag", func(ctx context.Context) (middleware.Metadata, error) {
			out, err := c.drs.TagResource(ctx, &drs.TagResourceInput{ResourceArn: &arn, Tags: map[string]string{key: "was here"}})
			if err != nil {
				return middleware.Metadata{}, err
			}
			return out.ResultMetadata, nil
		}, func(ctx context.Context) (bool, error) {
			s, err := c.server(ctx)
			return s.Tags[key] != "", err
		}),
		c.call("stop", func(ctx context.Context) (middleware.Metadata, error) {
			out, err := c.drs.StopReplication(ctx, &drs.StopReplicationInput{SourceServerID: &c.id})
			if err != nil {
				return middleware.Metadata{}, err
			}
			return out.ResultMetadata, nil
		}, c.is(drstypes.DataReplicationStateStopped, true)),
		c.network(round),
		c.call("start", func(ctx context.Context) (middleware.Metadata, error) {
			out, err := c.drs.StartReplication(ctx, &drs.StartReplicationInput{SourceServerID: &c.id})
			if err != nil {
				return middleware.Metadata{}, err
			}
			return out.ResultMetadata, nil
		}, c.is(drstypes.DataReplicationStateStopped, false)),
		c.call("continuous", nil, c.is(drstypes.DataReplicationStateContinuous, true)))
}

func (c *patient) network(round int) error {
	vpc, stack := fmt.Sprintf("vpc-%017x", round), fmt.Sprint("stack-", round)
	var id string
	find := func(ctx context.Context) (*drstypes.SourceNetwork, error) {
		out, err := c.drs.DescribeSourceNetworks(ctx, &drs.DescribeSourceNetworksInput{})
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(out.Items, func(n drstypes.SourceNetwork) bool { return aws.ToString(n.SourceVpcID) == vpc })
		if i < 0 {
			return nil, nil //nolint:nilnil // it is not there
		}
		id = aws.ToString(out.Items[i].SourceNetworkID)
		return &out.Items[i], nil
	}
	return errors.Join(
		c.call("create network", func(ctx context.Context) (middleware.Metadata, error) {
			out, err := c.drs.CreateSourceNetwork(ctx, &drs.CreateSourceNetworkInput{OriginAccountID: aws.String(harness.Account), OriginRegion: aws.String(harness.Region), VpcID: &vpc})
			if err != nil {
				return middleware.Metadata{}, err
			}
			return out.ResultMetadata, nil
		}, func(ctx context.Context) (bool, error) { n, err := find(ctx); return n != nil, err }),
		c.call("associate", func(ctx context.Context) (middleware.Metadata, error) {
			out, err := c.drs.AssociateSourceNetworkStack(ctx, &drs.AssociateSourceNetworkStackInput{SourceNetworkID: &id, CfnStackName: &stack})
			if err != nil {
				return middleware.Metadata{}, err
			}
			return out.ResultMetadata, nil
		}, func(ctx context.Context) (bool, error) {
			n, err := find(ctx)
			return n != nil && aws.ToString(n.CfnStackName) == stack, err
		}),
		c.call("delete network", func(ctx context.Context) (middleware.Metadata, error) {
			out, err := c.drs.DeleteSourceNetwork(ctx, &drs.DeleteSourceNetworkInput{SourceNetworkID: &id})
			if err != nil {
				return middleware.Metadata{}, err
			}
			return out.ResultMetadata, nil
		}, func(ctx context.Context) (bool, error) { n, err := find(ctx); return n == nil, err }))
}

// plan makes a wave of two applications, one of them by an import that is asked for more than once.
func (c *patient) plan(round int) error {
	wave, app, key, token := fmt.Sprint("wave-", round), fmt.Sprint("app-", round), fmt.Sprintf("in-%d.csv", round), fmt.Sprint("token-", round)
	sheet := fmt.Sprintf("mgn:wave:name,mgn:app:name,mgn:server:user-provided-id,mgn:server:fqdn-for-action-framework\n"+
		"%[1]s,imported-%[2]d,first-%[2]d,first.test\n%[1]s,imported-%[2]d,second-%[2]d,second.test\n", wave, round)
	if err := os.WriteFile(filepath.Join(c.dir, key), []byte(sheet), 0o600); err != nil {
		return err
	}
	var ids []string
	begin := func(ctx context.Context) (middleware.Metadata, error) {
		out, err := c.mgn.StartImport(ctx, &mgn.StartImportInput{ClientToken: &token, S3BucketSource: &mgntypes.S3BucketSource{S3Bucket: aws.String("files"), S3Key: &key}})
		if err != nil {
			return middleware.Metadata{}, err
		}
		ids = append(ids, aws.ToString(out.ImportTask.ImportID))
		return out.ResultMetadata, nil
	}
	err := errors.Join(
		c.call("create wave", func(ctx context.Context) (middleware.Metadata, error) {
			out, err := c.mgn.CreateWave(ctx, &mgn.CreateWaveInput{Name: &wave})
			if err != nil {
				return middleware.Metadata{}, err
			}
			return out.ResultMetadata, nil
		}, func(ctx context.Context) (bool, error) {
			out, err := c.mgn.ListWaves(ctx, &mgn.ListWavesInput{})
			return err == nil && slices.ContainsFunc(out.Items, func(w mgntypes.Wave) bool { return aws.ToString(w.Name) == wave }), err
		}),
		c.call("create application", func(ctx context.Context) (middleware.Metadata, error) {
			out, err := c.mgn.CreateApplication(ctx, &mgn.CreateApplicationInput{Name: &app})
			if err != nil {
				return middleware.Metadata{}, err
			}
			return out.ResultMetadata, nil
		}, func(ctx context.Context) (bool, error) {
			out, err := c.mgn.ListApplications(ctx, &mgn.ListApplicationsInput{})
			return err == nil && slices.ContainsFunc(out.Items, func(a mgntypes.Application) bool { return aws.ToString(a.Name) == app }), err
		}),
		c.call("import", begin, nil), c.call("import again", begin, nil),
		c.call("imported", nil, func(ctx context.Context) (bool, error) {
			out, err := c.mgn.ListImports(ctx, &mgn.ListImportsInput{Filters: &mgntypes.ListImportsRequestFilters{ImportIDs: ids[:1]}})
			if err != nil || len(out.Items) != 1 {
				return false, err
			}
			return out.Items[0].Status == mgntypes.ImportStatusSucceeded, nil
		}),
		c.call("import once more", begin, nil))
	if len(slices.Compact(ids)) > 1 {
		err = errors.Join(err, fmt.Errorf("one token, several imports: %v", ids))
	}
	return err
}

func killSeed(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	if text := os.Getenv("UNDERSTUDY_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("UNDERSTUDY_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// stillborn kills the server while it starts for the first time.
func stillborn(t *testing.T, s *harness.Server, rng *rand.Rand) {
	cmd := exec.Command(s.Binary, append([]string{"serve", "--data-dir", s.Dir, "--listen", strings.TrimPrefix(s.Endpoint, "https://"), "--data-listen", s.DataAddr,
		"--metrics-listen", s.Metrics, "--region", harness.Region, "--account-id", harness.Account}, s.Args...)...)
	p := harness.Start(t, "understudy serve", cmd)
	wait(t, time.Duration(rng.Int64N(int64(time.Second))))
	require.False(t, p.Ended(), p.Log())
	p.Kill()
}

func TestControlPlaneKilled(t *testing.T) { killControlPlane(t) }

// TestControlPlaneKilledOnPostgreSQL is the same with the records elsewhere: a killed control plane leaves transactions, and the
// lock that every Update holds, to a server that has to find out that it has gone.
func TestControlPlaneKilledOnPostgreSQL(t *testing.T) {
	killControlPlane(t, "--state-url", statetest.StartPostgres(t).Database(t.Name()))
}

// killControlPlane kills the control plane at random moments while clients are at work. Each workflow comes to its end,
// once; what was acknowledged stays, is in the audit log, and is told to whoever wants to hear.
func killControlPlane(t *testing.T, args ...string) {
	rng := killSeed(t)
	o := prepareOne(t)
	files := filepath.Join(o.dir, "buckets", harness.Account, "files")
	require.NoError(t, os.MkdirAll(files, 0o700))
	o.server = harness.PrepareServer(t, filepath.Join(o.dir, "server"), append(args, "--buckets", filepath.Join(o.dir, "buckets"))...)
	for range 3 {
		stillborn(t, o.server, rng)
	}
	o.server.Start(t)
	o.server.InitializeDRS(t)
	_, err := o.server.MGN(t).InitializeService(t.Context(), &mgn.InitializeServiceInput{})
	require.NoError(t, err)
	told := &listener{}
	receiver := httptest.NewServer(told)
	defer receiver.Close()
	o.server.CLI(t, "webhooks", "add", receiver.URL)
	o.start(t, "drs")

	ctx, cancel := context.WithCancel(t.Context())
	once := o.server.Config(t)
	once.RetryMaxAttempts = 1
	operator := &patient{ctx: ctx, drs: drs.NewFromConfig(once), id: o.id}
	planner := &patient{ctx: ctx, mgn: mgn.NewFromConfig(once), dir: files}
	done := make(chan error, 2)
	for _, flow := range []func(int) error{operator.protect, planner.plan} {
		go func() {
			var err error
			for round := 1; round <= killRounds && err == nil; round++ {
				err = flow(round)
			}
			done <- err
		}()
	}
	kills, left := 0, 2
	defer func() {
		cancel()
		for ; left > 0; left-- {
			<-done
		}
	}()
	for left > 0 {
		select {
		case err := <-done:
			left--
			require.NoError(t, err)
		case <-time.After(time.Duration(rng.Int64N(int64(longestLife)))):
			o.server.Kill()
			kills++
			o.server.Start(t)
		}
	}
	t.Logf("killed %d times", kills)
	_, err = os.Stat(filepath.Join(o.server.Dir, "state.db"))
	require.Equal(t, len(args) > 0, errors.Is(err, os.ErrNotExist), "where the records are")
	require.Positive(t, kills)
	o.server.Kill()
	o.server.Start(t)
	checkProtected(t, operator)
	checkPlanned(t, planner)
	checkAudited(t, o.server, append(operator.told, planner.told...))
	checkTold(t, o.server, told)
	o.continuous(t)
	o.same(t)
	journals, err := os.ReadDir(filepath.Join(o.server.Dir, "journals"))
	require.NoError(t, err)
	for _, d := range journals {
		require.True(t, !d.IsDir() || d.Name() == o.id, "a journal of nobody: %s", d.Name())
	}
}

// checkPlanned: everything that was asked for is there, and once.
func checkPlanned(t *testing.T, c *patient) {
	ctx := t.Context()
	waves, err := c.mgn.ListWaves(ctx, &mgn.ListWavesInput{})
	require.NoError(t, err)
	require.Len(t, waves.Items, killRounds)
	apps, err := c.mgn.ListApplications(ctx, &mgn.ListApplicationsInput{})
	require.NoError(t, err)
	require.Len(t, apps.Items, 2*killRounds)
	servers, err := c.mgn.DescribeSourceServers(ctx, &mgn.DescribeSourceServersInput{})
	require.NoError(t, err)
	require.Len(t, servers.Items, 2*killRounds)
	imports, err := c.mgn.ListImports(ctx, &mgn.ListImportsInput{})
	require.NoError(t, err)
	require.Len(t, imports.Items, killRounds)
}

// checkProtected: so it is here, and every job has ended.
func checkProtected(t *testing.T, c *patient) {
	ctx := t.Context()
	s, err := c.server(ctx)
	require.NoError(t, err)
	require.Len(t, s.Tags, killRounds)
	jobs, err := c.drs.DescribeJobs(ctx, &drs.DescribeJobsInput{})
	require.NoError(t, err)
	require.Len(t, jobs.Items, killRounds)
	for _, j := range jobs.Items {
		require.Equal(t, drstypes.JobStatusCompleted, j.Status)
		log, err := c.drs.DescribeJobLogItems(ctx, &drs.DescribeJobLogItemsInput{JobID: j.JobID})
		require.NoError(t, err)
		require.Len(t, log.Items, 4, "begun, two lines, ended")
	}
}

// checkAudited: what a client was told is in the audit log, once, and every line but those that a kill cut off is whole.
func checkAudited(t *testing.T, s *harness.Server, told []string) {
	names, err := filepath.Glob(filepath.Join(s.Dir, "audit", "*.jsonl"))
	require.NoError(t, err)
	lines := map[string]int{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		for line := range strings.Lines(string(b)) {
			var record struct{ RequestID string }
			if json.Unmarshal([]byte(line), &record) == nil {
				lines[record.RequestID]++
			}
		}
	}
	require.NotEmpty(t, told)
	for _, id := range told {
		require.Equal(t, 1, lines[id], "audit log of request %s", id)
	}
}

// checkTold: each event came to the listener, those of the server in order for the first time.
func checkTold(t *testing.T, s *harness.Server, l *listener) {
	harness.Eventually(t, 2*time.Minute, "all events are told", func() (bool, string) {
		printed, err := s.TryCLI(t.Context(), "events", "--json")
		if err != nil {
			return false, err.Error()
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		decode := json.NewDecoder(strings.NewReader(printed))
		seen, last := map[string]bool{}, -1
		for {
			var e struct{ ID string }
			if err := decode.Decode(&e); errors.Is(err, io.EOF) {
				return len(seen) > 0, fmt.Sprintf("%d events", len(seen))
			} else if err != nil {
				return false, err.Error()
			}
			require.False(t, seen[e.ID], "an event is there twice: %s", e.ID)
			seen[e.ID] = true
			at := slices.Index(l.heard, e.ID)
			if at < 0 {
				return false, "not heard of " + e.ID
			}
			require.Greater(t, at, last, "the order of events")
			last = at
		}
	})
}

// TestBackupAndRestoreKilled: a backup that was killed is no file or a good one, and a restore that was killed is no data
// directory or a whole one.
func TestBackupAndRestoreKilled(t *testing.T) {
	rng := killSeed(t)
	dir := t.TempDir()
	s := harness.NewServer(t, filepath.Join(dir, "server"))
	s.InitializeDRS(t)
	whole := filepath.Join(dir, "whole")
	began := time.Now()
	s.CLI(t, "backup", "--data-dir", s.Dir, whole)
	took := time.Since(began)
	s.CLI(t, "restore", whole, "--data-dir", filepath.Join(dir, "restored"))
	want := files(t, filepath.Join(dir, "restored"))
	killed := func(args ...string) {
		p := harness.Start(t, "understudy "+args[0], exec.Command(s.Binary, args...))
		select {
		case <-p.Done():
		case <-time.After(time.Duration(rng.Int64N(int64(took)))):
			p.Kill()
		}
	}
	made, restored := 0, 0
	for n := range 10 {
		file, to := filepath.Join(dir, fmt.Sprint("backup-", n)), filepath.Join(dir, fmt.Sprint("data-", n))
		killed("backup", "--data-dir", s.Dir, file)
		if _, err := os.Stat(file); err == nil {
			s.CLI(t, "restore", file, "--data-dir", filepath.Join(dir, fmt.Sprint("good-", n)))
			made++
		}
		killed("restore", whole, "--data-dir", to)
		if entries, err := os.ReadDir(to); err == nil && len(entries) > 0 {
			require.Equal(t, want, files(t, to))
			restored++
			continue
		}
		s.CLI(t, "restore", whole, "--data-dir", to)
		require.Equal(t, want, files(t, to))
	}
	t.Logf("%d backups and %d restores were through before they were killed", made, restored)
}

// files are the names and sizes below a directory; a database's size says nothing.
func files(t *testing.T, dir string) (out []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		name := strings.TrimPrefix(path, dir)
		if !strings.HasPrefix(name, "/state.db") {
			name += fmt.Sprint(" ", info.Size())
		}
		out = append(out, name)
		return err
	}))
	return out
}
