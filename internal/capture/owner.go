package capture

import (
	"bytes"
	"encoding/hex"
	"encoding/json"

	"github.com/cilium/ebpf"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Format versions of what is pinned (bpf/layout.h and the owner record), newest first. An agent takes over pins that its
// programs would have made; others are made anew, which costs a rescan.
//
// Version 3 is version 2 with room: the owner record says where the bits of each disk lie. Both are taken over; disks of
// version 2 cannot change.
const (
	formatVersion = formatV3
	formatV3      = 3 // room for disks to come and to grow
	formatV2      = 2 // lost completions are counted; capture without payloads
	// 1 was the first
)

// owner says, in JSON in a pinned map, whose capture it is and of what.
type owner struct {
	Version   int         `json:"version"`
	ID        captureID   `json:"id"`
	Owner     string      `json:"owner"`
	Mode      Mode        `json:"mode"`
	RingBytes int         `json:"ringBytes"`
	Disks     []ownedDisk `json:"disks"`
	Words     uint64      `json:"words"` // of a region
	Used      uint64      `json:"used"`  // of them given to disks, whether they are still there or not

	silent []uint16 // not recorded: see Capture
}

type ownedDisk struct {
	Disk
	Sequence uint64 `json:"sequence"` // the kernel's disk sequence number: a device number is used again
	place
}

type captureID [16]byte

func (id captureID) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(id[:])), nil }

func (id *captureID) UnmarshalText(b []byte) error {
	if len(b) != 2*len(id) {
		return hex.ErrLength
	}
	_, err := hex.Decode(id[:], b)
	return err
}

// differs says why a capture that o describes cannot serve as want, whatever its disks, or "".
func (o owner) differs(want owner) string {
	switch {
	case o.Version != formatV2 && o.Version != formatV3:
		return "another format version"
	case o.Owner != want.Owner:
		return "another owner"
	case o.Mode != want.Mode:
		return "another mode"
	case o.RingBytes != want.RingBytes:
		return "another ring size"
	}
	return ""
}

// captures says whether o is a capture of the disk, and not of one that had its device number before.
func (o owner) captures(disk ownedDisk) bool {
	for _, d := range o.Disks {
		if d.dev() == disk.dev() && d.Sequence == disk.Sequence {
			return true
		}
	}
	return false
}

// ownerBytes is the size of the owner map's one value.
const ownerBytes = 64 << 10

func (o owner) store(m *ebpf.Map) error {
	b, err := json.Marshal(o)
	if err != nil {
		return fault.New(fault.Bug, "capture: record owner", "%w", err)
	}
	if len(b) > ownerBytes {
		return invalid("the description of %d disks takes %d bytes, more than %d", len(o.Disks), len(b), ownerBytes)
	}
	value := make([]byte, ownerBytes)
	copy(value, b)
	return kernelFault("record owner", m.Put(uint32(0), value))
}

func loadOwner(m *ebpf.Map) (owner, error) {
	var o owner
	value, err := m.LookupBytes(uint32(0))
	if err != nil {
		return o, kernelFault("read owner", err)
	}
	text, _, _ := bytes.Cut(value, []byte{0})
	if err := json.Unmarshal(text, &o); err != nil {
		return o, fault.New(fault.Corruption, "capture: read owner", "%w", err)
	}
	return o, nil
}
