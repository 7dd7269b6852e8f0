// Package hostnets is what machines can be attached to: the networks of the launch hosts, in the words of
// EC2. A configuration file names them; without one there is libvirt's default network and one that is
// isolated. EC2's DescribeSubnets and DescribeSecurityGroups show them, launches look them up.
package hostnets

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"regexp"
	"slices"

	"github.com/understudy-dr/understudy/internal/fault"
)

// Network is one network of the launch hosts.
type Network struct {
	ID       string            `json:"id,omitempty"` // vpc-...; made from the name where it is not given
	Name     string            `json:"name"`         // what people call it
	CIDR     string            `json:"cidr"`         // covers its subnets
	Isolated bool              `json:"isolated"`     // nothing outside can be reached: for drills
	Tags     map[string]string `json:"tags,omitempty"`
	Subnets  []Subnet          `json:"subnets"`
	Groups   []Group           `json:"securityGroups,omitempty"`
}

// Subnet is what a machine's network card is attached to.
type Subnet struct {
	ID   string `json:"id,omitempty"` // subnet-...; made from the names where it is not given
	Name string `json:"name"`
	CIDR string `json:"cidr"`
	// Attach is what the launch host calls it: a libvirt network, or bridge:NAME.
	Attach  string            `json:"attach"`
	Zone    string            `json:"zone,omitempty"` // the launch host, for clients an availability zone
	Tags    map[string]string `json:"tags,omitempty"`
	Network string            `json:"-"` // the network's id
}

// Group is a security group: traffic that a machine takes.
type Group struct {
	ID          string            `json:"id,omitempty"` // sg-...; made from the names where it is not given
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Ingress     []Rule            `json:"ingress,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Network     string            `json:"-"`
}

// Rule lets traffic in. Protocol is tcp, udp, icmp or -1 for all; ports are inclusive, 0 and 0 are all.
type Rule struct {
	Protocol string   `json:"protocol"`
	From     int64    `json:"from"`
	To       int64    `json:"to"`
	CIDRs    []string `json:"cidrs"`
}

// Catalogue is the networks of an installation.
type Catalogue struct {
	networks []Network
}

// Default is libvirt's network, which reaches outside through its host, and one that reaches nothing.
func Default() (*Catalogue, error) {
	return build([]Network{
		{Name: "default", CIDR: "192.168.122.0/24", Subnets: []Subnet{{Name: "default", CIDR: "192.168.122.0/24", Attach: "default"}}},
		{Name: "isolated", CIDR: "192.168.222.0/24", Isolated: true,
			Subnets: []Subnet{{Name: "isolated", CIDR: "192.168.222.0/24", Attach: "understudy-isolated"}}},
	})
}

// Parse reads a configuration: a JSON object with a list "networks".
func Parse(text []byte) (*Catalogue, error) {
	const op = "hostnets: parse"
	var file struct {
		Networks []Network `json:"networks"`
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		return nil, fault.New(fault.Invalid, op, "%w", err)
	}
	c, err := build(file.Networks)
	return c, fault.Wrap(op, err)
}

var idPattern = regexp.MustCompile(`^(vpc|subnet|sg)-[0-9a-f]{8,17}$`)

func build(list []Network) (*Catalogue, error) {
	if len(list) == 0 {
		return nil, fault.New(fault.Invalid, "hostnets", "there is no network")
	}
	seen := map[string]bool{}
	for i := range list {
		if err := list[i].complete(seen); err != nil {
			return nil, err
		}
	}
	return &Catalogue{list}, nil
}

// complete checks a network and gives it what it was not given.
func (n *Network) complete(seen map[string]bool) error {
	whole, err := netip.ParsePrefix(n.CIDR)
	if n.Name == "" || err != nil || len(n.Subnets) == 0 {
		return fault.New(fault.Invalid, "hostnets", "network %q needs a name, a cidr like 10.0.0.0/16 and subnets", n.Name)
	}
	if err := identify(&n.ID, "vpc-", seen, n.Name); err != nil {
		return err
	}
	for i := range n.Subnets {
		s := &n.Subnets[i]
		part, err := netip.ParsePrefix(s.CIDR)
		if s.Name == "" || s.Attach == "" || err != nil || !whole.Overlaps(part) || part.Bits() < whole.Bits() {
			return fault.New(fault.Invalid, "hostnets", "subnet %q of %s needs a name, something to attach to and a cidr within %s", s.Name, n.Name, n.CIDR)
		}
		s.Network = n.ID
		if err := identify(&s.ID, "subnet-", seen, n.Name, s.Name); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(n.Groups, func(g Group) bool { return g.Name == "default" }) {
		n.Groups = append(n.Groups, Group{Name: "default", Description: "default VPC security group",
			Ingress: []Rule{{Protocol: "-1", CIDRs: []string{n.CIDR}}}})
	}
	for i := range n.Groups {
		g := &n.Groups[i]
		g.Network = n.ID
		if g.Name == "" {
			return fault.New(fault.Invalid, "hostnets", "a security group of %s has no name", n.Name)
		}
		if err := g.check(); err != nil {
			return err
		}
		if err := identify(&g.ID, "sg-", seen, n.Name, g.Name); err != nil {
			return err
		}
	}
	return nil
}

func (g *Group) check() error {
	for _, r := range g.Ingress {
		if !slices.Contains([]string{"tcp", "udp", "icmp", "-1"}, r.Protocol) || r.From < -1 || r.To < r.From || r.To > 65535 {
			return fault.New(fault.Invalid, "hostnets", "security group %s has a rule for %q, ports %d to %d", g.Name, r.Protocol, r.From, r.To)
		}
		for _, c := range r.CIDRs {
			if _, err := netip.ParsePrefix(c); err != nil {
				return fault.New(fault.Invalid, "hostnets", "security group %s: %w", g.Name, err)
			}
		}
	}
	return nil
}

// identify makes an id of names, the same at every start, where none is given.
func identify(id *string, prefix string, seen map[string]bool, names ...string) error {
	if *id == "" {
		h := sha256.New()
		for _, n := range names {
			h.Write([]byte(n + "\x00"))
		}
		*id = prefix + hex.EncodeToString(h.Sum(nil))[:17]
	}
	if !idPattern.MatchString(*id) || (*id)[:len(prefix)] != prefix || seen[*id] {
		return fault.New(fault.Invalid, "hostnets", "%q is no id of its own for %q: it looks like %s0123456789abcdef0", *id, names, prefix)
	}
	seen[*id] = true
	return nil
}

// Networks lists the networks.
func (c *Catalogue) Networks() []Network { return slices.Clone(c.networks) }

// Subnets lists the subnets of all networks.
func (c *Catalogue) Subnets() []Subnet {
	var out []Subnet
	for _, n := range c.networks {
		out = append(out, n.Subnets...)
	}
	return out
}

// Groups lists the security groups of all networks.
func (c *Catalogue) Groups() []Group {
	var out []Group
	for _, n := range c.networks {
		out = append(out, n.Groups...)
	}
	return out
}

// Subnet is the subnet of an id, with its network.
func (c *Catalogue) Subnet(id string) (Subnet, Network, bool) {
	for _, n := range c.networks {
		for _, s := range n.Subnets {
			if s.ID == id {
				return s, n, true
			}
		}
	}
	return Subnet{}, Network{}, false
}

// First is where a machine goes that no subnet is named for: the first subnet that is isolated or not, as
// wanted; the first of all where there is none.
func (c *Catalogue) First(isolated bool) (Subnet, Network) {
	for _, n := range c.networks {
		if n.Isolated == isolated {
			return n.Subnets[0], n
		}
	}
	return c.networks[0].Subnets[0], c.networks[0]
}
