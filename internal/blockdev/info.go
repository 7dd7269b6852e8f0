package blockdev

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Info is what is known of a block device without opening it.
type Info struct {
	Path         string // as it was asked for
	Dev          Dev    // of the device itself
	Disk         Dev    // of its whole disk; equal to Dev unless it is a partition
	Name         string // the kernel's name of the whole disk: sda, nvme0n1
	Bytes        uint64 // of the device itself
	LogicalBlock uint32
	Zoned        bool   // host-managed or host-aware zones
	Requests     bool   // the driver takes requests; false for dm, md and their like
	Hardware     bool   // it is not made of other disks, files, memory or the network by this kernel
	Sequence     uint64 // never given to two disks between reboots, unlike a device number; 0 where the kernel has none
	Serial       string // of the hardware, as are the rest; empty where there is none
	WWN          string
	Model        string
	Backing      string // the file of a loop device
	Made         string // the UUID of a device-mapper or RAID device
}

// Partition says whether the device is only a part of its disk.
func (i Info) Partition() bool { return i.Dev != i.Disk }

// Stat says what the block device at path is.
func Stat(path string) (Info, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Info{}, openFault(path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Info{}, fault.New(fault.Invalid, "blockdev: stat", "%s is not a block device", path).
			WithHint("see lsblk for the disks of this machine")
	}
	return stat(path, Dev{unix.Major(st.Rdev), unix.Minor(st.Rdev)})
}

func stat(path string, dev Dev) (Info, error) {
	dir, err := filepath.EvalSymlinks("/sys/dev/block/" + dev.String())
	if err != nil {
		return Info{}, fault.New(fault.NotFound, "blockdev: stat", "%s is device %s, which does not exist", path, dev)
	}
	info := Info{Path: path, Dev: dev, Disk: dev}
	sectors, err := strconv.ParseUint(attr(dir, "size"), 10, 64)
	if err != nil {
		return Info{}, fault.New(fault.Transient, "blockdev: stat", "size of %s: %w", path, err)
	}
	info.Bytes = sectors << 9
	if exists(dir, "partition") {
		dir = filepath.Dir(dir)
		if info.Disk, err = parseDev(attr(dir, "dev")); err != nil {
			return Info{}, fault.New(fault.Transient, "blockdev: stat", "whole disk of %s: %w", path, err)
		}
	}
	info.describe(dir)
	return info, nil
}

// describe fills in what sysfs says of the whole disk.
func (i *Info) describe(dir string) {
	i.Name = strings.ReplaceAll(filepath.Base(dir), "!", "/")
	i.LogicalBlock = 512
	if n, err := strconv.ParseUint(attr(dir, "queue/logical_block_size"), 10, 32); err == nil && n >= 512 {
		i.LogicalBlock = uint32(n)
	}
	zoned := attr(dir, "queue/zoned")
	i.Zoned = zoned != "" && zoned != "none"
	i.Requests = exists(dir, "mq")
	i.Hardware = hardware(dir)
	i.Sequence, _ = strconv.ParseUint(attr(dir, "diskseq"), 10, 64)
	i.Serial = first(attr(dir, "serial"), attr(dir, "device/serial"), vpdSerial(dir))
	i.WWN = first(attr(dir, "wwid"), attr(dir, "device/wwid"))
	i.Model = attr(dir, "device/model")
	i.Backing = attr(dir, "loop/backing_file")
	i.Made = first(attr(dir, "dm/uuid"), attr(dir, "md/uuid"))
}

// hardware tells from where the kernel keeps a disk. An NVMe disk that may have several paths belongs to none of its
// controllers, and so to no bus.
func hardware(dir string) bool {
	below, made := strings.CutPrefix(dir, "/sys/devices/virtual/")
	return !made || strings.HasPrefix(below, "nvme-subsystem/")
}

// List describes the whole disks of this machine that have a size, in the order of their names.
func List() ([]Info, error) {
	entries, err := os.ReadDir("/sys/block")
	if err != nil {
		return nil, fault.New(fault.Unsupported, "blockdev: list", "%w", err)
	}
	var infos []Info
	for _, e := range entries {
		dev, err := parseDev(attr(filepath.Join("/sys/block", e.Name()), "dev"))
		if err != nil {
			continue // it went away while we looked
		}
		info, err := stat("/dev/"+strings.ReplaceAll(e.Name(), "!", "/"), dev)
		if err == nil && info.Bytes > 0 {
			infos = append(infos, info)
		}
	}
	slices.SortFunc(infos, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return infos, nil
}

func parseDev(s string) (Dev, error) {
	major, minor, _ := strings.Cut(s, ":")
	a, err1 := strconv.ParseUint(major, 10, 32)
	b, err2 := strconv.ParseUint(minor, 10, 32)
	return Dev{uint32(a), uint32(b)}, errors.Join(err1, err2)
}

// vpdSerial reads SCSI's unit serial number page: a 4-byte header, then text.
func vpdSerial(dir string) string {
	page, err := os.ReadFile(filepath.Join(dir, "device/vpd_pg80"))
	if err != nil || len(page) < 4 {
		return ""
	}
	return clean(page[4:])
}

func attr(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return clean(b)
}

func clean(b []byte) string { return string(bytes.Trim(b, " \n\t\x00")) }

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

func first(options ...string) string {
	for _, s := range options {
		if s != "" {
			return s
		}
	}
	return ""
}
