package blockdev

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Identity is what a whole disk is known by wherever it is plugged in and whatever it is called: the name of its hardware, of
// what it is made of, or of its partition table; else its path, which is no better than a name. Size is no part of it.
// Reading a partition table opens the disk.
func (i Info) Identity() string {
	switch {
	case i.WWN != "":
		return "wwn:" + i.WWN
	case i.Serial != "":
		return "serial:" + i.Serial
	case i.Backing != "":
		return "file:" + i.Backing
	case i.Made != "":
		return "made:" + i.Made
	}
	if id := i.tableIdentity(); id != "" {
		return id
	}
	return "path:" + i.Path
}

func (i Info) tableIdentity() string {
	d, err := Open(i.Path)
	if err != nil {
		return ""
	}
	defer d.Close()
	size := int(max(i.LogicalBlock, 512))
	b := AlignedBuffer(2 * size)
	if n, err := d.ReadAt(b, 0); n < len(b) && !errors.Is(err, io.EOF) {
		return ""
	}
	return tableIdentity(b[:size], b[size:])
}

// tableIdentity finds the names that partitioning tools give a disk, in its first two blocks.
func tableIdentity(mbr, gpt []byte) string {
	if bytes.HasPrefix(gpt, []byte("EFI PART")) {
		return fmt.Sprintf("gpt:%x", gpt[56:72])
	}
	if sig := binary.LittleEndian.Uint32(mbr[440:]); mbr[510] == 0x55 && mbr[511] == 0xaa && sig != 0 {
		return fmt.Sprintf("mbr:%08x", sig)
	}
	return ""
}
