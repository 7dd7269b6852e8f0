package agent

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/capture"
	"github.com/understudy-dr/understudy/internal/fault"
)

// Uninstall removes the agent with this state directory: its service and program, its capture, its identity and the
// directory, which stays if it holds anything that is not the agent's. It is idempotent. The server keeps what it has.
func Uninstall(ctx context.Context, stateDir, root string, log *slog.Logger) error {
	i := Installation{Config: Config{StateDir: stateDir}, Root: root}
	if err := i.removeService(ctx); err != nil {
		return err
	}
	if err := removeState(i.path(stateDir), log); err != nil {
		return err
	}
	blockdev.SweepClaims()
	removeEmpty(runDir)
	return nil
}

// removeService stops and removes the service if it is the one of this state directory.
func (i Installation) removeService(ctx context.Context) error {
	unit, err := os.ReadFile(i.path(unitPath))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.New(fault.Unknown, "agent: uninstall", "%w", err)
	}
	if !strings.Contains(string(unit), "\n"+stateMark+i.StateDir+"\n") {
		return nil
	}
	if err := i.systemctl(ctx, unitPath, "disable", "--now", unitName); err != nil {
		return err
	}
	for _, p := range []string{wantedPath, programPath, programPath + ".new", unitPath} { // the unit last: with it the work is known
		if err := os.Remove(i.path(p)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fault.New(fault.Unknown, "agent: uninstall", "%w", err)
		}
	}
	removeEmpty(i.path(programDir))
	return i.systemctl(ctx, "/", "daemon-reload")
}

// removeState ends the capture of an agent and removes what it keeps.
func removeState(dir string, log *slog.Logger) (err error) {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	lock, err := lockState(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := thawLeftovers(context.Background(), Config{StateDir: dir, Log: log}); err != nil {
		return err
	}
	if err := os.Remove(runFile(dir, "agent")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.New(fault.Unknown, "agent: uninstall", "%w", err)
	}
	if id := registeredAs(dir); id != "" {
		if err := capture.Remove(pinDir(id)); err != nil {
			return err
		}
		removeEmpty(pinRoot)
		log.Info("capture ended, identity forgotten", "source-server", id)
	}
	if err := forgetIdentity(dir); err != nil {
		return err
	}
	for _, name := range []string{identityFile, knownFile, statusFile, metricsFile, proofsFile, keyFile, certFile, caFile} {
		if err := os.Remove(filepath.Join(dir, name+".new")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fault.New(fault.Unknown, "agent: uninstall", "%w", err)
		}
	}
	if err := os.Remove(filepath.Join(dir, lockFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.New(fault.Unknown, "agent: uninstall", "%w", err)
	}
	removeEmpty(dir)
	return nil
}

// registeredAs is the source server of a state directory, also of one that has lost its key.
func registeredAs(dir string) string {
	var id identity
	b, err := os.ReadFile(filepath.Join(dir, identityFile))
	if err != nil || json.Unmarshal(b, &id) != nil || id.ServerID != filepath.Base(id.ServerID) {
		return ""
	}
	return id.ServerID
}

// removeEmpty removes a directory that holds nothing. One that does is somebody else's too.
func removeEmpty(dir string) { _ = os.Remove(dir) }
