package agent

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/understudy-dr/understudy/internal/blockdev"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/machine"
)

/*
disks.json is what the agent knows its disks by, so that a disk that was renamed is the same and another one under an old name is
not. docs/design/2026-11-23-disks.md is the argument. Losing it costs what names cost: the disks at the paths of --devices are
believed to be those.
*/
const (
	knownFile    = "disks.json"
	knownVersion = 1
)

// known is a disk that was seen on this machine.
type known struct {
	ID         string `json:"id"`              // what the service knows it by: the digest of its first identity, for good
	Identity   string `json:"identity"`        // what it is found by
	Device     string `json:"device"`          // where it was last
	Named      string `json:"named,omitempty"` // in --devices; empty for one that the policy added
	Replicated bool   `json:"replicated"`
	Bytes      uint64 `json:"bytes"` // at most
	// Where it was in this start of the kernel: then it is the same whatever its content says.
	Dev      blockdev.Dev `json:"dev"`
	Sequence uint64       `json:"sequence"`

	at int // in the list of those that were found; -1: it was not
}

// ledger is disks.json.
type ledger struct {
	Version int     `json:"version"`
	Boot    string  `json:"boot"` // start of the kernel that Dev and Sequence are of
	Disks   []known `json:"disks"`
}

// found is a disk as it is now.
type found struct {
	blockdev.Info
	identity string
	id       string // of the known disk that it is
}

func find(i blockdev.Info) found { return found{Info: i, identity: i.Identity()} }

// loadKnown is empty without an error when there is none.
func loadKnown(dir string) (k ledger, err error) {
	b, err := os.ReadFile(filepath.Join(dir, knownFile))
	if errors.Is(err, os.ErrNotExist) {
		return ledger{Version: knownVersion}, nil
	}
	if err != nil {
		return k, fault.New(fault.Unknown, "agent: "+knownFile, "%w", err)
	}
	hint := "see that each of --devices is the disk that is meant, then remove the file"
	if err := json.Unmarshal(b, &k); err != nil {
		return k, fault.New(fault.Corruption, "agent: "+knownFile, "%w", err).WithHint(hint)
	}
	if k.Version != knownVersion {
		return k, fault.New(fault.Unsupported, "agent: "+knownFile, "version %d, this build reads %d", k.Version, knownVersion).WithHint(hint)
	}
	return k, nil
}

func (k *ledger) save(dir string) error {
	b, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return fault.New(fault.Bug, "agent: "+knownFile, "%w", err)
	}
	return replaceFile(filepath.Join(dir, knownFile), append(b, '\n'))
}

// is tells whether a disk is the known one.
func (k *ledger) is(d *known, f *found, boot string) bool {
	if k.Boot == boot && d.Sequence != 0 && d.Sequence == f.Sequence && d.Dev == f.Disk {
		return true
	}
	return d.Identity == f.identity
}

// wanted decides which of the disks that are there are to be replicated, and takes note of all of them. add is the policy for
// disks that were never seen. Without a record, those at the paths of devices are meant.
func (k *ledger) wanted(all []found, devices []string, boot string, add bool) ([]found, error) {
	first := len(k.Disks) == 0
	taken := make([]bool, len(all))
	for i := range k.Disks {
		d := &k.Disks[i]
		if d.Named != "" && !slices.Contains(devices, d.Named) {
			d.Replicated, d.Named = false, "" // nobody names it any more
		}
		at, err := k.locate(d, all, taken, boot)
		if err != nil {
			return nil, err
		}
		if d.at = at; at < 0 {
			continue
		}
		taken[at] = true
		f := &all[at]
		if !d.Replicated && f.Path == d.Device && slices.Contains(devices, f.Path) && !k.names(f.Path) {
			d.Replicated, d.Named = true, f.Path // somebody names it now
		}
		d.Device, d.Dev, d.Sequence = f.Path, f.Disk, f.Sequence
		if !strings.HasPrefix(f.identity, "path:") { // else its partition table could not be read, or it has none any more
			d.Identity = f.identity
		}
	}
	for at := range all {
		if !taken[at] {
			k.note(&all[at], at, devices, first, add)
		}
	}
	k.Boot = boot
	return k.replicated(all), nil
}

// locate finds a known disk. Of two that call themselves so, the one at the last place is meant, if either is.
func (k *ledger) locate(d *known, all []found, taken []bool, boot string) (int, error) {
	var at []int
	for i := range all {
		if !taken[i] && k.is(d, &all[i], boot) {
			at = append(at, i)
		}
	}
	if len(at) < 2 {
		return append(at, -1)[0], nil
	}
	same := func(i int) bool { return all[i].Path == d.Device }
	if i := slices.IndexFunc(at, same); i >= 0 {
		return at[i], nil
	}
	if !d.Replicated {
		return at[0], nil
	}
	return -1, fault.New(fault.Conflict, "agent: disks", "%s and %s are both %s, which was %s", all[at[0]].Path, all[at[1]].Path, d.Identity, d.Device).
		WithHint("if they are two paths to one disk, remove one of them; if they are two disks, give them names of their own")
}

// note takes note of a disk that was never seen. At a path that was another disk's it is a new disk, whoever names the path.
func (k *ledger) note(f *found, at int, devices []string, first, add bool) {
	n := known{ID: k.newID(f), Identity: f.identity, Device: f.Path, Dev: f.Disk, Sequence: f.Sequence, at: at}
	switch {
	case slices.Contains(devices, f.Path) && (first || !k.names(f.Path)):
		n.Replicated, n.Named = true, f.Path
	case !first && add && refused(f.Info) == nil && unlikely(f.Info) == nil:
		n.Replicated = true
	}
	k.Disks = append(k.Disks, n)
}

// names tells whether a path of --devices stands for a known disk, wherever that is.
func (k *ledger) names(path string) bool {
	return slices.ContainsFunc(k.Disks, func(d known) bool { return d.Named == path })
}

// replicated are those of the disks at hand that are to be replicated, in the order in which they became known.
func (k *ledger) replicated(all []found) (out []found) {
	for i := range k.Disks {
		d := &k.Disks[i]
		if d.at < 0 || !d.Replicated {
			continue
		}
		f := all[d.at]
		f.id = d.ID
		out = append(out, f)
	}
	return out
}

// newID is for a disk that was never seen. That its identity is an older one's happens to partition tables that are copied.
func (k *ledger) newID(f *found) string {
	id := digestOf(f.identity)
	for n := 1; slices.ContainsFunc(k.Disks, func(d known) bool { return d.ID == id }); n++ {
		id = digestOf(fmt.Sprintf("%s\n%d", f.identity, n))
	}
	return id
}

// shrank tells of a known disk that is smaller than it was. Its size is kept: it is not replicated until it has it again.
func (k *ledger) shrank(f found) error {
	for i := range k.Disks {
		d := &k.Disks[i]
		if d.ID != f.id {
			continue
		}
		if f.Bytes < d.Bytes {
			return fault.New(fault.Conflict, "agent: disks", "%s shrank from %d to %d bytes and is no longer replicated", f.Path, d.Bytes, f.Bytes).
				WithHint("make it as large as it was, or stop replication and start it again, which deletes what was replicated and copies all disks anew")
		}
		d.Bytes = f.Bytes
	}
	return nil
}

// sort finds among the machine's disks all that may be meant: hardware, what is named, and what was known once.
func (k *ledger) sort(infos []blockdev.Info, devices []string) ([]found, error) {
	var all []found
	for _, i := range infos {
		// What is made of others is told by sysfs alone; partition tables are read of hardware only.
		if !i.Hardware && i.Backing == "" && i.Made == "" && !slices.Contains(devices, i.Path) {
			continue
		}
		all = append(all, find(i))
	}
	return k.named(all, devices)
}

// named sees to the paths of --devices that are links to disks: a disk is called as it is named.
func (k *ledger) named(all []found, devices []string) ([]found, error) {
	seen := map[blockdev.Dev]string{}
	for _, path := range devices {
		i, err := blockdev.Stat(path)
		if fault.Is(err, fault.NotFound) && len(k.Disks) > 0 {
			continue // it has another name now, or is gone
		}
		if err != nil {
			return nil, err
		}
		if other, twice := seen[i.Dev]; twice {
			return nil, fault.New(fault.Invalid, "agent: --devices", "%s and %s are the same disk", other, path)
		}
		seen[i.Dev] = path
		if err := refused(i); err != nil {
			if len(k.Disks) > 0 {
				continue
			}
			return nil, err
		}
		// The kernel's name of a disk is no way to it where that leads to another, as in a container.
		all = slices.DeleteFunc(all, func(f found) bool { return f.Path == path && f.Disk != i.Disk })
		if at := slices.IndexFunc(all, func(f found) bool { return f.Disk == i.Disk }); at >= 0 {
			all[at].Path = path
		} else {
			all = append(all, find(i))
		}
	}
	slices.SortStableFunc(all, func(a, b found) int { return cmp.Compare(order(devices, a.Path), order(devices, b.Path)) })
	return all, nil
}

// order has disks be numbered as they are named.
func order(devices []string, path string) int {
	if i := slices.Index(devices, path); i >= 0 {
		return i
	}
	return len(devices)
}

// bootID tells one start of the kernel from another; empty where it cannot be told, and then nothing is believed of it.
func bootID() string {
	p, err := machine.Here().Presence(nil)
	if err != nil {
		return ""
	}
	return p.Boot
}
