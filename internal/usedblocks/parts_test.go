package usedblocks

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// look reads an image in a file.
func look(t testing.TB, path string) ([]Range, []Content) {
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	st, err := f.Stat()
	require.NoError(t, err)
	free, found, err := Find(t.Context(), f, st.Size(), Options{MinFree: 4096, Settle: time.Nanosecond, Poll: time.Millisecond})
	require.NoError(t, err)
	return free, found
}

func kinds(found []Content) (list []string) {
	for _, c := range found {
		k := c.Kind
		if c.Err != nil {
			k += "!"
		}
		list = append(list, k)
	}
	return list
}

func inSectors(r Range, first, last int64) bool {
	return r.Offset >= first*512 && r.end() <= (last+1)*512
}

// partitioned is an image that sfdisk has cut up.
func partitioned(t testing.TB, bytes int64, script string) string {
	needRoot(t, "sfdisk", "mkfs.ext4", "mkswap")
	path := image(t, bytes)
	c := exec.Command("sfdisk", "-q", "--wipe=never", path)
	c.Stdin = strings.NewReader(script)
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// format makes something in a part of an image.
func format(t testing.TB, path string, first, sectors int64, name string, args ...string) {
	dev := sh(t, "losetup", "--find", "--show", "-o", fmt.Sprint(first*512), "--sizelimit", fmt.Sprint(sectors*512), path)
	defer sh(t, "losetup", "-d", dev)
	sh(t, name, append(args, dev)...)
}

func TestGPT(t *testing.T) {
	path := partitioned(t, 256<<20, "label: gpt\nstart=2048, size=131072\nstart=133120, size=65536, type=swap\nstart=262144, size=131072\n")
	format(t, path, 2048, 131072, "mkfs.ext4", "-q", "-F")
	format(t, path, 133120, 65536, "mkswap")
	free, found := look(t, path)
	require.Equal(t, []string{"gpt", "ext4", "swap", ""}, kinds(found), "%v", found)
	require.EqualValues(t, 133120*512, found[2].Offset)
	require.EqualValues(t, 65536*512-4096, found[2].Free)
	require.Contains(t, free, Range{133120*512 + 4096, 65536*512 - 4096})
	for _, r := range free {
		require.True(t, inSectors(r, 2048, 133119) || inSectors(r, 133120, 198655), "%v", r)
	}

	large, err := os.ReadFile(path) // as a member of a striped array sees the array's table
	require.NoError(t, err)
	part := filepath.Join(t.TempDir(), "member")
	require.NoError(t, os.WriteFile(part, large[:232<<20], 0o600))
	free, found = look(t, part)
	require.Empty(t, free)
	require.ErrorContains(t, found[0].Err, "past the disk's end")

	damage(t, path, 512+16) // the checksum
	free, found = look(t, path)
	require.Empty(t, free)
	require.Equal(t, []string{"gpt!"}, kinds(found))
}

func damage(t testing.TB, path string, at int64) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	require.NoError(t, err)
	b[0] ^= 0x41
	_, err = f.WriteAt(b, at)
	require.NoError(t, errors.Join(err, f.Close()))
}

func TestMBR(t *testing.T) {
	path := partitioned(t, 256<<20, "label: dos\nstart=2048, size=131072\nstart=135168, size=262144, type=5\nstart=137216, size=32768\nstart=172032, size=65536, type=82\n")
	format(t, path, 2048, 131072, "mkfs.ext4", "-q", "-F")
	format(t, path, 137216, 32768, "mkfs.ext4", "-q", "-F")
	format(t, path, 172032, 65536, "mkswap")
	free, found := look(t, path)
	require.Equal(t, []string{"mbr", "ext4", "ext4", "swap"}, kinds(found), "%v", found)
	require.EqualValues(t, 137216*512, found[2].Offset)
	require.Positive(t, found[2].Free)
	for _, r := range free {
		require.True(t, inSectors(r, 2048, 133119) || inSectors(r, 137216, 169983) || inSectors(r, 172032, 237567), "%v", r)
	}
}

// A superblock that an earlier life of the disk left behind is no reason to leave anything out.
func TestLeftovers(t *testing.T) {
	needRoot(t, "mkfs.ext4", "sfdisk", "mkswap", "mkfs.btrfs")
	path := image(t, 256<<20)
	sh(t, "mkfs.ext4", "-q", "-F", path)
	free, _ := look(t, path)
	require.NotEmpty(t, free)
	c := exec.Command("sfdisk", "-q", "--wipe=never", "--wipe-partitions=never", path)
	c.Stdin = strings.NewReader("label: dos\nstart=2048\n")
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	free, found := look(t, path)
	require.Empty(t, free)
	require.ErrorContains(t, found[0].Err, "looks like mbr and like ext4")

	for _, s := range signatures {
		path := image(t, 64<<20)
		sh(t, "mkfs.btrfs", "-q", "-f", "--mixed", path)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		require.NoError(t, err)
		at := s.offset
		if at < 0 { // the image's size is a multiple of all their units
			at += 64 << 20
		}
		_, err = f.WriteAt([]byte(s.magic), at)
		require.NoError(t, errors.Join(err, f.Close()))
		free, found := look(t, path)
		require.Empty(t, free, "%q", s.magic)
		require.ErrorContains(t, found[0].Err, "looks like btrfs and like", "%q", s.magic)
	}
}

func TestHibernatedSwap(t *testing.T) {
	needRoot(t, "mkswap")
	path := image(t, 16<<20)
	sh(t, "mkswap", path)
	free, _ := look(t, path)
	require.Equal(t, []Range{{4096, 16<<20 - 4096}}, free)
	require.NoError(t, os.Truncate(path, 17<<20)) // what lies behind it is not swap
	free, _ = look(t, path)
	require.Equal(t, []Range{{4096, 16<<20 - 4096}}, free)
	require.NoError(t, os.Truncate(path, 15<<20))
	free, found := look(t, path)
	require.Empty(t, free)
	require.Equal(t, []string{"swap!"}, kinds(found))
	require.NoError(t, os.Truncate(path, 16<<20))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("S1SUSPEND\x00"), 4086)
	require.NoError(t, errors.Join(err, f.Close()))
	free, found = look(t, path)
	require.Empty(t, free)
	require.Equal(t, []string{"swap!"}, kinds(found))
}

func TestLVM(t *testing.T) {
	needRoot(t, "pvcreate", "vgcreate", "vgcfgrestore", "mkfs.ext4")
	path := image(t, 256<<20)
	dev := attach(t, path)
	name := fmt.Sprint("understudy", os.Getpid())
	run := func(cmd string, args ...string) { lvmRun(t, dev, cmd, args...) }
	run("pvcreate", "-ff", "-y", dev)
	run("vgcreate", "-s", "4m", name, dev)
	// Volumes are made as a restored backup makes them: that asks nothing of the kernel.
	backup := filepath.Join(t.TempDir(), "backup")
	run("vgcfgbackup", "-f", backup, name)
	text, err := os.ReadFile(backup)
	require.NoError(t, err)
	end := bytes.LastIndexByte(text, '}')
	volumes := fmt.Sprintf(lvmVolumes, lvID(1), lvID(2))
	require.NoError(t, os.WriteFile(backup, slices.Concat(text[:end], []byte(volumes), text[end:]), 0o600))
	run("vgcfgrestore", "--force", "-f", backup, name)

	// a has a file system; c holds what nobody knows.
	first := int64(1 << 20)
	content := image(t, 48<<20)
	sh(t, "mkfs.ext4", "-q", "-F", content)
	b, err := os.ReadFile(content)
	require.NoError(t, err)
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(b[:32<<20], first)
	require.NoError(t, err)
	_, err = f.WriteAt(b[32<<20:], first+24*4<<20)
	require.NoError(t, errors.Join(err, f.Sync(), f.Close()))

	free, found := look(t, path)
	require.Equal(t, []string{"lvm2", "ext4", ""}, kinds(found), "%v", found)
	inner, _ := look(t, content)
	var want []Range
	l := logical{segments: []segment{{0, first, 32 << 20}, {32 << 20, first + 24*4<<20, 16 << 20}}}
	for _, r := range inner {
		want = append(want, l.place(r)...)
	}
	extents := (256<<20 - first) / (4 << 20)
	want = append(want, Range{first + 8*4<<20, 32 << 20}, Range{first + 28*4<<20, (extents - 28) * 4 << 20})
	require.Equal(t, tidy(want, 256<<20, 4096), free)
}

// lvmVolumes are a, in two segments, and c.
const lvmVolumes = `
logical_volumes {
	a { id = "%s" status = ["READ", "WRITE", "VISIBLE"] flags = [] segment_count = 2
		segment1 { start_extent = 0 extent_count = 8 type = "striped" stripe_count = 1 stripes = ["pv0", 0] }
		segment2 { start_extent = 8 extent_count = 4 type = "striped" stripe_count = 1 stripes = ["pv0", 24] } }
	c { id = "%s" status = ["READ", "WRITE", "VISIBLE"] flags = [] segment_count = 1
		segment1 { start_extent = 0 extent_count = 8 type = "striped" stripe_count = 1 stripes = ["pv0", 16] } }
}
`

func lvID(n int) string { return fmt.Sprintf("aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaa%d", n) }

// lvmRun runs a command of LVM on one device only, without the device mapper and without the machine's own settings.
func lvmRun(t testing.TB, dev, cmd string, args ...string) {
	c := exec.Command(cmd, append([]string{"-qq", "--config",
		`devices{use_devicesfile=0 filter=["a|^` + dev + `$|","r|.*|"]} activation{udev_sync=0 udev_rules=0 monitoring=0} backup{backup=0 archive=0}`}, args...)...)
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s: %s", cmd, out)
}

// What a snapshot or a pool stands on is used, whatever lies in it.
func TestLVMText(t *testing.T) {
	const text = `vg { # comment
	id = "x" seqno = 4 extent_size = 8192
	physical_volumes { pv0 { id = "aaaa-bb" pe_start = 2048 pe_count = 20 } }
	logical_volumes {
		plain { segment_count = 1 segment1 { start_extent = 0 extent_count = 2 type = "striped" stripe_count = 1 stripes = [ "pv0", 0 ] } }
		origin { segment1 { start_extent = 0 extent_count = 3 type = "striped" stripe_count = 1 stripes = [ "pv0", 4 ] } }
		snap { segment1 { start_extent = 0 extent_count = 3 type = "snapshot" chunk_size = 8 origin = "origin" cow_store = "cow" } }
		cow { segment1 { start_extent = 0 extent_count = 1 type = "striped" stripe_count = 1 stripes = ["pv0", 10] } }
		two { segment1 { start_extent = 0 extent_count = 4 type = "striped" stripe_count = 2 stripes = ["pv0", 12, "pv1", 0] } }
	} }
contents = "Text Format Volume Group" version = 1`
	group, err := parseLVM([]byte(text))
	require.NoError(t, err)
	p, err := newPV(&disk{bytes: 100 << 20}, group, "aaaabb")
	require.NoError(t, err)
	simple := map[string]bool{}
	var used []Range
	for name, x := range p.volumes {
		l, err := p.volume(name, x.(lvmSection))
		require.NoError(t, err)
		simple[name] = l.simple
		used = append(used, l.used...)
	}
	require.True(t, simple["plain"])
	require.False(t, simple["snap"] || simple["two"])
	require.True(t, p.mentioned["origin"] && p.mentioned["cow"] && !p.mentioned["plain"])
	at := func(extent, n int64) Range { return Range{1<<20 + extent*4<<20, n * 4 << 20} }
	require.Equal(t, []Range{at(0, 2), at(4, 3), at(10, 1), at(12, 2)}, tidy(used, 1<<40, 1))

	_, err = (&pv{v: p.v, name: "pv0", extent: 1, count: 1, mentioned: map[string]bool{}}).volume("x", lvmSection{"segment1": lvmSection{"type": "new", "where": []any{"pv0", int64(0)}}})
	require.Error(t, err, "a segment that is not known may lie anywhere")
	for _, bad := range []string{"a {", "a = ", "a { b = [ 1", `a { b = "x`, "a { b = 1 b = 2 }", strings.Repeat("a {", 20), "= 3", "a b"} {
		_, err := parseLVM([]byte(bad))
		require.Error(t, err, bad)
	}
}

func TestWithout(t *testing.T) {
	free := []Range{{10, 10}, {30, 10}, {50, 5}}
	require.Equal(t, []Range{{12, 3}, {18, 2}, {30, 5}, {50, 5}}, without(free, []Range{{35, 10}, {0, 12}, {15, 3}}))
	require.Equal(t, []Range{{10, 10}}, without([]Range{{10, 10}}, nil))
	require.Empty(t, without([]Range{{10, 10}}, []Range{{0, 100}}))
}

// Reads of a disk are whole pages into aligned memory, whatever is asked.
func TestReadsAreAligned(t *testing.T) {
	content := make([]byte, 3<<20+512)
	for i := range content {
		content[i] = byte(i * 7 >> 3)
	}
	d := &disk{r: choosy{t, bytes.NewReader(content)}, bytes: int64(len(content))}
	for _, c := range [][2]int64{{0, 1}, {1024, 1024}, {4095, 2}, {5, 2 << 20}, {3 << 20, 512}, {3<<20 - 1, 513}} {
		b := make([]byte, c[1])
		require.NoError(t, d.read(b, c[0]))
		require.Equal(t, content[c[0]:c[0]+c[1]], b)
	}
	require.Error(t, d.read(make([]byte, 2), int64(len(content))-1))
	require.Error(t, d.read(make([]byte, 1), -1))
}

type choosy struct {
	t testing.TB
	r *bytes.Reader
}

func (c choosy) ReadAt(p []byte, off int64) (int, error) {
	require.Zero(c.t, off%4096)
	require.True(c.t, len(p)%4096 == 0 || off+int64(len(p)) == c.r.Size())
	return c.r.ReadAt(p, off)
}
