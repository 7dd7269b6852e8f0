package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func run(t *testing.T, l *Log) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return func() error { cancel(); return <-done }
}

func record(n int) Record {
	return Record{EventName: "StartRecovery", RequestID: fmt.Sprint(n), RequestParameters: json.RawMessage(`{"sourceServerID":"s-1"}`)}
}

// ids are of all records, oldest first. The current file is opened first, and read last: one that is put aside meanwhile
// is read twice, and not missed.
func ids(t *testing.T, dir string) (out []string) {
	current, err := os.Open(filepath.Join(dir, Current))
	if err != nil {
		require.ErrorIs(t, err, fs.ErrNotExist, "it is being put aside")
	}
	names, err := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
	require.NoError(t, err)
	var files []*os.File
	for _, name := range names {
		f, err := os.Open(name)
		require.NoError(t, err)
		files = append(files, f)
	}
	if current != nil {
		files = append(files, current)
	}
	for _, f := range files {
		for s := bufio.NewScanner(f); s.Scan(); {
			var r Record
			if json.Unmarshal(s.Bytes(), &r) == nil { // not the line that a crash cut off
				out = append(out, r.RequestID)
			}
		}
		require.NoError(t, f.Close())
	}
	return out
}

func TestEveryRecordIsThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := New(dir, slog.New(slog.DiscardHandler))
	l.maxSize = 4000
	stop := run(t, l)
	var want []string
	var wg sync.WaitGroup
	for n := range 200 {
		want = append(want, fmt.Sprint(n))
		wg.Go(func() {
			wait := l.Append(record(n))
			if n%2 == 0 {
				require.NoError(t, wait(t.Context()))
				require.Contains(t, ids(t, dir), fmt.Sprint(n))
			}
		})
	}
	wg.Wait()
	require.NoError(t, l.Append(record(len(want)))(t.Context())) // behind all of them, should they have been written at once
	want = append(want, fmt.Sprint(len(want)))
	require.NoError(t, stop())
	require.ElementsMatch(t, want, ids(t, dir))
	full, err := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
	require.NoError(t, err)
	require.NotEmpty(t, full)
	for _, name := range append(full, filepath.Join(dir, Current)) {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	require.Error(t, l.Append(record(0))(t.Context()), "it has been closed")
}

func TestATornLineSpoilsNoOther(t *testing.T) {
	dir := t.TempDir()
	for n := range 3 {
		l := New(dir, slog.New(slog.DiscardHandler))
		stop := run(t, l)
		require.NoError(t, l.Append(record(n))(t.Context()))
		require.NoError(t, stop())
		f, err := os.OpenFile(filepath.Join(dir, Current), os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteString(`{"eventVersion":"1.1`)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	require.Equal(t, []string{"0", "1", "2"}, ids(t, dir))
}

// TestADiskThatTakesNothing stands in for a full one: the file cannot be opened again after an error.
func TestADiskThatTakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := New(dir, slog.New(slog.DiscardHandler))
	stop := run(t, l)
	require.NoError(t, l.Append(record(0))(t.Context()))
	l.maxSize = 1 // the next batch begins a new file
	require.NoError(t, os.Rename(dir, dir+".away"))
	require.Error(t, l.Append(record(1))(t.Context()), "nobody waits for the disk to get well")
	wait := l.Append(record(2))
	require.NoError(t, os.Rename(dir+".away", dir))
	require.NoError(t, wait(t.Context()))
	require.NoError(t, stop())
	require.Equal(t, []string{"0", "1", "2"}, ids(t, dir))
}

func TestShape(t *testing.T) {
	r := Record{UserIdentity: Identity{Type: "IAMUser", PrincipalID: "AIDA1", ARN: "arn:aws:iam::1:user/u", AccountID: "1", AccessKeyID: "AKIA1", UserName: "u"},
		EventTime: Time(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)), EventSource: Source("drs"), EventName: "DescribeJobs", AWSRegion: "r", SourceIPAddress: "127.0.0.1",
		UserAgent: "aws-cli", RequestParameters: json.RawMessage(`{}`), RequestID: "q", EventID: "e", ReadOnly: true, RecipientAccountID: "1"}
	line, err := r.encode()
	require.NoError(t, err)
	require.JSONEq(t, `{"eventVersion":"1.11","userIdentity":{"type":"IAMUser","principalId":"AIDA1","arn":"arn:aws:iam::1:user/u","accountId":"1",
		"accessKeyId":"AKIA1","userName":"u"},"eventTime":"2026-01-02T03:04:05Z","eventSource":"drs.amazonaws.com","eventName":"DescribeJobs","awsRegion":"r",
		"sourceIPAddress":"127.0.0.1","userAgent":"aws-cli","requestParameters":{},"responseElements":null,"requestID":"q","eventID":"e","readOnly":true,
		"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"1","eventCategory":"Management"}`, string(line))
	r.ResponseElements = json.RawMessage(`"` + strings.Repeat("x", maxElement) + `"`)
	line, err = r.encode()
	require.NoError(t, err)
	require.Less(t, len(line), 2000)
	require.Contains(t, string(line), `"additionalEventData":{"omittedForSize":["responseElements"]}`)
}
