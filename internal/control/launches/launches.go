// Package launches decides who may be launched, terminated or finished with, and makes the jobs for it. What a job
// says is done by a Launcher, which internal/app provides where the installation has one. internal/awsapi calls it.
package launches

import (
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Launcher carries out jobs. A job's record is the truth: whoever carries jobs out begins, after a restart, with those
// that are unfinished, looks for such now and then, for the process may end or the store fail between a job's record and
// Take, and moves them by internal/control/jobs alone.
type Launcher interface {
	// Take tells of a job that has just been stored. It does not wait for it.
	Take(j state.Job)
}

// NoLauncher refuses, after everything else was found right, where nobody could do the work.
func NoLauncher(op string) error {
	return fault.New(fault.Unsupported, op, "no launch provider is configured on this installation, so it cannot launch or terminate machines").
		WithHint("replication goes on; the disks at any recovery point can be read with 'understudy export' and 'understudy nbd'")
}
