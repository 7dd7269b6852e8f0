package networks

import (
	"net/netip"
	"slices"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/state"
)

// A block of a VPC, and a subnet, has a prefix of these lengths. A VPC has so many blocks, unless AWS raises the quota.
const (
	widest    = 16
	narrowest = 28
	maxBlocks = 5
)

// vpc is one VPC: its blocks, the primary one first, and its subnets.
type vpc struct {
	n       int
	reach   reach
	blocks  []netip.Prefix
	subnets []netip.Prefix
}

// reach is one of the ranges that AWS tells apart when it decides which blocks one VPC may have.
type reach struct {
	name   string
	within netip.Prefix
	early  netip.Prefix // what cannot be added to blocks of this range, so that it has to be the primary one
	open   bool         // can be added to blocks of any range
}

// reaches lists the ranges; the last one is everything else. AWS refuses to add a block of one of the private ranges,
// or of 198.19.0.0/16, to a VPC whose blocks are of another range: its own services use addresses there.
var reaches = []reach{
	{name: "10.0.0.0/8", within: prefix("10.0.0.0/8"), early: prefix("10.0.0.0/16")},
	{name: "172.16.0.0/12", within: prefix("172.16.0.0/12"), early: prefix("172.31.0.0/16")},
	{name: "192.168.0.0/16", within: prefix("192.168.0.0/16")},
	{name: "198.19.0.0/16", within: prefix("198.19.0.0/16")},
	{name: "public and shared addresses", within: prefix("0.0.0.0/0"), open: true},
}

// unusable are the ranges that no VPC has: this machine's own, the link's, groups and what is reserved.
var unusable = []netip.Prefix{prefix("0.0.0.0/8"), prefix("127.0.0.0/8"), prefix("169.254.0.0/16"), prefix("224.0.0.0/3")}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func reachOf(p netip.Prefix) reach {
	return reaches[slices.IndexFunc(reaches, func(r reach) bool { return r.within.Contains(p.Addr()) })]
}

// layout chooses the subnets, and spreads them over as few VPCs as AWS allows.
func layout(v state.SourceNetwork) ([]*vpc, error) {
	subnets, err := subnetsOf(v)
	if err != nil {
		return nil, err
	}
	var vpcs []*vpc
	for _, b := range blocksOf(subnets) {
		r := reachOf(b)
		i := slices.IndexFunc(vpcs, func(have *vpc) bool {
			return have.reach == r || r.open && len(have.blocks) < maxBlocks
		})
		if i < 0 {
			i = len(vpcs)
			vpcs = append(vpcs, &vpc{n: i, reach: r})
		}
		in := vpcs[i]
		in.blocks = append(in.blocks, b)
		for _, p := range subnets {
			if b.Contains(p.Addr()) {
				in.subnets = append(in.subnets, p)
			}
		}
	}
	for _, one := range vpcs {
		if len(one.blocks) > maxBlocks {
			return nil, control.Refuse(opTemplate, Kind, v.ID, "its addresses in %s are in %d blocks of /%d at most, and a VPC has %d: %v",
				one.reach.name, len(one.blocks), widest, maxBlocks, one.blocks).
				WithHint("make source networks of some of them each, with the tag " + PrefixTag)
		}
	}
	return vpcs, nil
}

const opTemplate = "source networks: template"

// subnetsOf are the prefixes of the tag, or those that the servers have their addresses in where there is no tag or its
// prefixes are wider than a subnet. They are sorted and do not overlap.
func subnetsOf(v state.SourceNetwork) (out []netip.Prefix, err error) {
	given, _ := prefixesOf(&v)
	var wide []netip.Prefix
	for _, p := range given {
		switch {
		case !p.Addr().Is4():
		case p.Bits() < widest:
			wide = append(wide, p)
		default:
			out = append(out, p)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	out = slices.Compact(out)
	for i, p := range out {
		if p.Bits() > narrowest {
			return nil, control.Refuse(opTemplate, Kind, v.ID, "%s is narrower than a subnet may be, which is /%d", p, narrowest)
		}
		if i > 0 && out[i-1].Overlaps(p) {
			return nil, control.Refuse(opTemplate, Kind, v.ID, "%s and %s overlap", out[i-1], p)
		}
	}
	for _, p := range around(v.Facts) {
		if (len(given) == 0 || overlapsAny(wide, p)) && !overlapsAny(out, p) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	for _, p := range out {
		if overlapsAny(unusable, p) {
			return nil, control.Refuse(opTemplate, Kind, v.ID, "%s cannot be in a VPC", p).WithHint("leave it out of the tag " + PrefixTag)
		}
	}
	if len(out) == 0 {
		return nil, control.Refuse(opTemplate, Kind, v.ID, "has no IPv4 addresses, and a VPC needs them")
	}
	return out, nil
}

func overlapsAny(list []netip.Prefix, p netip.Prefix) bool {
	return slices.ContainsFunc(list, p.Overlaps)
}

// blocksOf are the blocks that hold the subnets, the fewest that there can be and each as small as it can be. Those come first that
// have to be the primary block of their VPC, and those last that can be added to any.
func blocksOf(subnets []netip.Prefix) (out []netip.Prefix) {
	for _, p := range subnets {
		last := len(out) - 1
		if last >= 0 && first16(out[last]) == first16(p) {
			out[last] = cover(out[last], p)
		} else {
			out = append(out, p)
		}
	}
	rank := func(p netip.Prefix) int {
		r := reachOf(p)
		switch {
		case r.open:
			return 2
		case r.early.IsValid() && r.early.Overlaps(p):
			return 0
		}
		return 1
	}
	slices.SortStableFunc(out, func(a, b netip.Prefix) int { return rank(a) - rank(b) })
	return out
}

// first16 is the widest block that holds a prefix.
func first16(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Addr(), widest).Masked() }

// cover is the smallest prefix that holds both.
func cover(a, b netip.Prefix) netip.Prefix {
	for !a.Contains(b.Addr()) || a.Bits() > b.Bits() {
		a = netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
	}
	return a
}

// around are the networks of the addresses found. Where one's length is not known, or no subnet has it, it is one of 256
// addresses. None is within another.
func around(f state.NetworkFacts) (out []netip.Prefix) {
	for _, h := range f.Hosts {
		for _, nic := range h.NICs {
			for i, text := range nic.IPs {
				a, err := netip.ParseAddr(text)
				if err != nil || !a.Is4() {
					continue
				}
				bits := subnetBits
				if i < len(nic.Prefixes) {
					if p, err := netip.ParsePrefix(nic.Prefixes[i]); err == nil && p.Bits() >= widest && p.Bits() <= narrowest {
						bits = p.Bits()
					}
				}
				out = append(out, netip.PrefixFrom(a, bits).Masked())
			}
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare) // a wider one comes before those within it
	kept := out[:0]
	for _, p := range out {
		if len(kept) == 0 || !kept[len(kept)-1].Overlaps(p) {
			kept = append(kept, p)
		}
	}
	return kept
}
