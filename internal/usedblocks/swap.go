package usedblocks

// swapPage is the size of the header page and its signature; 0 when there is none.
func swapPage(v volume) (int64, string) {
	for _, page := range []int64{4096, 8192, 16384, 65536} {
		var sig [10]byte
		if v.size() < page || v.read(sig[:], page-10) != nil {
			break
		}
		switch sig := string(sig[:]); sig {
		case "SWAPSPACE2", "S1SUSPEND\x00", "S2SUSPEND\x00", "ULSUSPEND\x00", "LINHIB0001":
			return page, sig
		}
	}
	return 0, ""
}

func isSwap(v volume) bool {
	page, _ := swapPage(v)
	return page != 0
}

// swapFree knows the header page; the rest, as far as the header says, is memory that no boot will ask for, unless it is an
// image to resume from. What lies behind is somebody else's: DRBD's metadata, say.
func swapFree(_ *search, v volume, _ int) ([]Range, error) {
	page, sig := swapPage(v)
	if sig != "SWAPSPACE2" {
		return nil, errDoubt("holds a hibernated system")
	}
	var info [8]byte
	if err := v.read(info[:], 1024); err != nil {
		return nil, err
	}
	version, last := le.Uint32(info[:]), int64(le.Uint32(info[4:]))
	if version != 1 || last < 1 || last >= v.size()/page {
		return nil, errDoubt("version %d, of %d pages", version, last+1)
	}
	return []Range{{page, last * page}}, nil
}
