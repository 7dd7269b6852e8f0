package networks

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/state"
)

// PrefixTag is the tag of a source network that says which addresses are in it, as "10.1.0.0/16,10.2.0.0/24".
// A network without it is that of all source servers of the account.
const PrefixTag = "understudy:prefixes"

// lookEvery is how old what was found of a network may get before it is looked at again.
const lookEvery = time.Minute

// due tells whether a network should be looked at.
func due(v *state.SourceNetwork, now time.Time) bool {
	switch v.Status {
	case state.NetworkInProgress:
		return true
	case state.NetworkProtected, state.NetworkError:
		return now.Sub(v.ObservedAt) >= lookEvery
	}
	return false
}

// look finds out what is in a network.
func (n *Networks) look(ctx context.Context, s state.Scope, id string) (state.SourceNetwork, error) {
	return n.Change(ctx, s, id, func(tx state.Tx, v *state.SourceNetwork) error {
		now := time.Now().UTC()
		if !due(v, now) {
			return nil
		}
		prefixes, bad := prefixesOf(v)
		facts, err := find(ctx, tx, s, prefixes)
		if err != nil {
			return err
		}
		v.ObservedAt = now
		switch {
		case bad != "":
			return move(v, NotFound, "tag "+PrefixTag+": "+cut(bad)+" is no address prefix")
		case len(facts.Hosts) == 0:
			return move(v, NotFound, "no source server has an address in this network")
		}
		v.Facts = facts
		return move(v, Found, "")
	})
}

// cut keeps status details within their limit.
func cut(s string) string {
	const most = 100
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "")
	}
	return s
}

// prefixesOf reads the prefix tag; bad is the first that is none. No prefixes hold every address.
func prefixesOf(v *state.SourceNetwork) (prefixes []netip.Prefix, bad string) {
	tag := strings.TrimSpace(v.Tags[PrefixTag])
	if tag == "" {
		return nil, ""
	}
	for text := range strings.SplitSeq(tag, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, text
		}
		prefixes = append(prefixes, p.Masked())
	}
	return prefixes, ""
}

// find lists the servers that have an address in the prefixes, with the interfaces that have.
func find(ctx context.Context, r state.Reader, s state.Scope, prefixes []netip.Prefix) (facts state.NetworkFacts, err error) {
	for page := (state.Page{Limit: state.MaxLimit}); ; {
		items, next, err := r.Servers(ctx, s, state.ServerFilter{}, page)
		if err != nil {
			return facts, err
		}
		for _, v := range items {
			if nics := inside(v.Properties.NICs, prefixes); len(nics) > 0 {
				facts.Hosts = append(facts.Hosts, state.NetworkHost{ServerID: v.ID, Hostname: v.Properties.Hints.Hostname, NICs: nics,
					Routes: leading(v.Properties.Routes, nics), Resolver: v.Properties.Resolver})
			}
		}
		if next == "" {
			return facts, nil
		}
		page.After = next
	}
}

func inside(nics []state.NIC, prefixes []netip.Prefix) (out []state.NIC) {
	for _, nic := range nics {
		found := state.NIC{MAC: nic.MAC, Primary: nic.Primary}
		for i, text := range nic.IPs {
			a, err := netip.ParseAddr(text)
			if err != nil || a.IsLinkLocalUnicast() || a.IsLoopback() {
				continue
			}
			if len(prefixes) == 0 || contains(prefixes, a) {
				found.IPs = append(found.IPs, text)
				if len(nic.Prefixes) == len(nic.IPs) {
					found.Prefixes = append(found.Prefixes, nic.Prefixes[i])
				}
			}
		}
		if len(found.IPs) > 0 {
			out = append(out, found)
		}
	}
	return out
}

// leading are the routes that go out by one of the interfaces.
func leading(routes []state.Route, nics []state.NIC) (out []state.Route) {
	for _, r := range routes {
		if slices.ContainsFunc(nics, func(n state.NIC) bool { return n.MAC == r.MAC }) {
			out = append(out, r)
		}
	}
	return out
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Of tells which followed network each of the given servers is in, the oldest where there are several.
func (n *Networks) Of(ctx context.Context, s state.Scope, servers []state.Server) (map[string]string, error) {
	out := map[string]string{}
	var list []state.SourceNetwork
	err := n.Store.View(ctx, func(r state.Reader) (err error) {
		list, err = all(ctx, r, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range list {
		v := &list[i]
		prefixes, bad := prefixesOf(v)
		if v.Status == state.NetworkStopped || bad != "" {
			continue
		}
		for _, server := range servers {
			if _, have := out[server.ID]; !have && len(inside(server.Properties.NICs, prefixes)) > 0 {
				out[server.ID] = v.ID
			}
		}
	}
	return out, nil
}
