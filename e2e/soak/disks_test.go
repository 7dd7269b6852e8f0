package soak

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/e2e/harness"
	"github.com/understudy-dr/understudy/internal/app/agent"
)

// growth bounds how much of a disk is new: nobody should wait for long copies.
const growth = 2

// grow makes one of the disks larger; XFS follows once points have the new size, as it must.
func (l *lab) grow(rng *rand.Rand) func() {
	at := rng.IntN(len(l.disks()))
	d := l.disks()[at]
	if by := (4 + rng.Int64N(12)) << 20; d.Bytes+by <= growth*l.sizes[at] {
		d.Bytes += by
		l.resize(d, d.Bytes)
		l.logf("%s has %d bytes", d.Device, d.Bytes)
		l.filesGrew = l.filesGrew || d == l.files
	}
	return func() {}
}

func (l *lab) resize(d *harness.Disk, bytes int64) {
	require.NoError(l.t, os.Truncate(d.File, bytes))
	harness.Run(l.t, "losetup", "-c", d.Device)
}

// shrink takes the end off the raw disk and gives it back, empty, once the agent has noticed: it looks every 15 seconds, and
// what shrinks and grows in between is not told from what stays.
func (l *lab) shrink(rng *rand.Rand) func() {
	by := (4 + rng.Int64N(12)) << 20
	since := time.Now()
	l.resize(l.raw, l.raw.Bytes-by)
	harness.EventuallyEvery(l.t, time.Second, patience, "the agent tells of the disk that shrank", func() (bool, string) {
		s, err := l.status(since)
		if err != nil {
			return false, err.Error()
		}
		return strings.Contains(s.Error, "shrank"), s.Phase + " " + s.Error
	})
	return func() { l.resize(l.raw, l.raw.Bytes) }
}

// status is what the agent wrote since; its own clock may be anything.
func (l *lab) status(since time.Time) (agent.Status, error) {
	info, err := os.Stat(filepath.Join(l.agent.StateDir, "status.json"))
	if err != nil {
		return agent.Status{}, err
	}
	if !info.ModTime().After(since) {
		return agent.Status{}, fmt.Errorf("the agent has told nothing since %s", info.ModTime())
	}
	return agent.ReadStatus(l.agent.StateDir)
}

// whole tells whether the agent is up to date and all of every disk is in its points.
func (l *lab) whole(since time.Time) (bool, string) {
	s, err := l.status(since)
	if err != nil {
		return false, err.Error()
	}
	why := fmt.Sprintf("connected %v, %s %s %s", s.Connected, s.Phase, s.Reason, s.Error)
	if !s.Connected || s.Phase != "continuous" || s.Error != "" {
		return false, why
	}
	for _, d := range l.disks() {
		at := slices.IndexFunc(s.Disks, func(a agent.DiskStatus) bool { return a.Device == d.Device })
		if at < 0 || s.Disks[at].Joining || s.Disks[at].Total != uint64(d.Bytes) || s.Disks[at].Replicated != s.Disks[at].Total {
			return false, fmt.Sprintf("%s; not all of %s: %+v", why, d.Device, s.Disks)
		}
	}
	return true, ""
}

// extend has the file system that can be grown with no more than root's usual rights take what its disk has grown by.
func (l *lab) extend() {
	if l.filesGrew {
		harness.Run(l.t, "xfs_growfs", l.mounts[1])
		l.filesGrew = false
	}
}
