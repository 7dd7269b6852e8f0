package networks

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/state"
)

// defaultRoute is the route to everywhere.
const defaultRoute = "0.0.0.0/0"

// builder collects a template's parts.
type builder struct {
	name       []map[string]string // the tag of all that is made
	parameters map[string]any
	conditions map[string]any
	resources  map[string]resourceEntry
	outputs    map[string]any
	vpcs       []*vpc
	subnets    int // made so far
	routed     int // routes made so far
}

func newBuilder(name string, vpcs []*vpc) *builder {
	return &builder{name: []map[string]string{{"Key": "Name", "Value": name}}, parameters: map[string]any{}, conditions: map[string]any{},
		resources: map[string]resourceEntry{}, outputs: map[string]any{}, vpcs: vpcs}
}

func ref(name string) map[string]string { return map[string]string{"Ref": name} }

func (b *builder) add(name, kind string, properties map[string]any, condition ...string) {
	b.resources[name] = resourceEntry{Type: kind, Condition: strings.Join(condition, ""), Properties: properties}
}

// key is the name of a VPC's part. The first VPC's have no number: with one VPC there is none.
func (v *vpc) key(part string) string {
	if v.n == 0 {
		return part
	}
	return part + strconv.Itoa(v.n)
}

// network makes a VPC, its blocks and subnets, and what says who reaches whom.
func (b *builder) network(v *vpc) {
	id := ref(v.key("Vpc"))
	b.add(v.key("Vpc"), "AWS::EC2::VPC", map[string]any{"CidrBlock": v.blocks[0].String(), "EnableDnsSupport": true, "EnableDnsHostnames": true, "Tags": b.name})
	b.outputs[v.key("Vpc")+"Id"] = map[string]any{"Value": id}
	for i, p := range v.blocks[1:] {
		b.add(v.blockKey(i+1), "AWS::EC2::VPCCidrBlock", map[string]any{"VpcId": id, "CidrBlock": p.String()})
	}
	b.add(v.key("RouteTable"), "AWS::EC2::RouteTable", map[string]any{"VpcId": id, "Tags": b.name})
	for _, p := range v.subnets {
		b.subnet(v, p)
	}
	group := ref(v.key("SecurityGroup"))
	b.add(v.key("SecurityGroup"), "AWS::EC2::SecurityGroup", map[string]any{"VpcId": id, "GroupDescription": "Everybody in the source network", "Tags": b.name})
	b.add(v.key("SecurityGroup")+"Members", "AWS::EC2::SecurityGroupIngress", map[string]any{"GroupId": group, "IpProtocol": "-1", "SourceSecurityGroupId": group})
	b.outputs[v.key("SecurityGroup")+"Id"] = map[string]any{"Value": group}
}

func (v *vpc) blockKey(i int) string { return v.key("Vpc") + "Block" + strconv.Itoa(i) }

// subnet makes a subnet. In a secondary block it has to wait for the block, which nothing else tells CloudFormation.
func (b *builder) subnet(v *vpc, p netip.Prefix) {
	key := fmt.Sprintf("Subnet%d", b.subnets)
	b.subnets++
	made := resourceEntry{Type: "AWS::EC2::Subnet", Properties: map[string]any{"VpcId": ref(v.key("Vpc")), "CidrBlock": p.String(), "Tags": b.name}}
	if i := slices.IndexFunc(v.blocks, p.Overlaps); i > 0 {
		made.DependsOn = v.blockKey(i)
	}
	b.resources[key] = made
	b.add(key+"Routes", "AWS::EC2::SubnetRouteTableAssociation", map[string]any{"SubnetId": ref(key), "RouteTableId": ref(v.key("RouteTable"))})
	b.outputs[key+"Id"] = map[string]any{"Value": ref(key)}
}

// DHCP options name at most so many servers.
const maxNameServers = 4

// names makes the DHCP options: the servers that most source servers ask, IPv4 first come, and the first domain that is
// searched.
func (b *builder) names(f state.NetworkFacts) {
	var servers, domains tally
	for _, h := range f.Hosts {
		for _, s := range h.Resolver.Servers {
			if a, err := netip.ParseAddr(s); err == nil && a.Is4() && !a.IsLoopback() {
				servers.count(s)
			}
		}
		if len(h.Resolver.Search) > 0 {
			domains.count(h.Resolver.Search[0])
		}
	}
	list := servers.most()
	if len(list) == 0 {
		return
	}
	options := map[string]any{"DomainNameServers": list[:min(len(list), maxNameServers)], "Tags": b.name}
	if found := domains.most(); len(found) > 0 {
		options["DomainName"] = found[0]
	}
	b.parameters["NameServers"] = choice("whether machines ask the source network's own name servers, which must be reachable, or AWS's", "aws", "source")
	b.conditions["SourceNames"] = equals("NameServers", "source")
	b.add("Names", "AWS::EC2::DHCPOptions", options, "SourceNames")
	for _, v := range b.vpcs {
		b.add(v.key("NamesOfVpc"), "AWS::EC2::VPCDHCPOptionsAssociation", map[string]any{"VpcId": ref(v.key("Vpc")), "DhcpOptionsId": ref("Names")}, "SourceNames")
	}
}

// routes makes what leads out of the VPCs. What stands for a source's router has no name here: it is a parameter, and
// there is no route without it.
func (b *builder) routes(f state.NetworkFacts) {
	for _, v := range b.vpcs {
		ways := b.ways(f, v)
		for _, to := range slices.Sorted(maps.Keys(ways)) {
			by := strings.Join(slices.Sorted(maps.Keys(ways[to])), ", ")
			if to == defaultRoute {
				b.internet(v, by)
			} else {
				b.route(v, to, by)
			}
		}
	}
}

// ways are the gateways by destination of the routes whose gateway is in a VPC. The first has those of nowhere, too.
func (b *builder) ways(f state.NetworkFacts, v *vpc) map[string]map[string]bool {
	ways := map[string]map[string]bool{}
	for _, h := range f.Hosts {
		for _, r := range h.Routes {
			to, err := netip.ParsePrefix(r.Destination)
			if err != nil || !to.Addr().Is4() || b.home(r.Gateway) != v {
				continue
			}
			if ways[to.String()] == nil {
				ways[to.String()] = map[string]bool{}
			}
			ways[to.String()][r.Gateway] = true
		}
	}
	return ways
}

// home is the VPC that a gateway is in.
func (b *builder) home(gateway string) *vpc {
	if a, err := netip.ParseAddr(gateway); err == nil {
		for _, v := range b.vpcs {
			if contains(v.blocks, a) {
				return v
			}
		}
	}
	return b.vpcs[0]
}

func (b *builder) route(v *vpc, to, by string) {
	key := fmt.Sprintf("Route%d", b.routed)
	b.routed++
	b.parameters[key+"Interface"] = map[string]any{"Type": "String", "Default": "",
		"Description": "Network interface of what stands for the router " + by + ", which leads to " + to + "; without it there is no such route"}
	b.conditions["Has"+key] = map[string]any{"Fn::Not": []any{equals(key+"Interface", "")}}
	b.add(key, "AWS::EC2::Route", map[string]any{"RouteTableId": ref(v.key("RouteTable")), "DestinationCidrBlock": to,
		"NetworkInterfaceId": ref(key + "Interface")}, "Has"+key)
}

// internet makes the default route, where the source had one and the user wants it.
func (b *builder) internet(v *vpc, by string) {
	wanted, gateway, attached := v.key("HasInternet"), v.key("InternetGateway"), v.key("InternetGatewayOfVpc")
	b.parameters[v.key("Internet")] = choice("whether there is an internet gateway; the source's default route is by "+by, "no", "yes")
	b.conditions[wanted] = equals(v.key("Internet"), "yes")
	b.add(gateway, "AWS::EC2::InternetGateway", map[string]any{"Tags": b.name}, wanted)
	b.add(attached, "AWS::EC2::VPCGatewayAttachment", map[string]any{"VpcId": ref(v.key("Vpc")), "InternetGatewayId": ref(gateway)}, wanted)
	b.resources[v.key("DefaultRoute")] = resourceEntry{Type: "AWS::EC2::Route", Condition: wanted, DependsOn: attached,
		Properties: map[string]any{"RouteTableId": ref(v.key("RouteTable")), "DestinationCidrBlock": defaultRoute, "GatewayId": ref(gateway)}}
}

func choice(what, first, second string) map[string]any {
	return map[string]any{"Type": "String", "Default": first, "AllowedValues": []string{first, second}, "Description": "Says " + what}
}

func equals(parameter, value string) map[string]any {
	return map[string]any{"Fn::Equals": []any{ref(parameter), value}}
}

// document is the template.
func (b *builder) document(v state.SourceNetwork) map[string]any {
	about := "Source network " + v.ID + ", as its source servers' networks were at " + v.ObservedAt.Format(time.RFC3339)
	if n := len(b.vpcs); n > 1 {
		about += fmt.Sprintf(". Its addresses are of ranges that AWS does not let one VPC have, so there are %d VPCs, which nothing connects but servers "+
			"with an interface in each", n)
	}
	out := map[string]any{
		"AWSTemplateFormatVersion": "2010-09-09",
		"Description":              about,
		"Metadata": map[string]any{"SourceNetwork": map[string]any{
			"SourceVpcID": v.VPCID, "SourceAccountID": v.OriginAccount, "SourceRegion": v.OriginRegion, "SourceServers": v.Facts.Hosts}},
		"Resources": b.resources, "Outputs": b.outputs,
	}
	if len(b.parameters) > 0 {
		out["Parameters"], out["Conditions"] = b.parameters, b.conditions
	}
	return out
}

// tally counts what is named.
type tally struct {
	order []string
	times map[string]int
}

func (t *tally) count(name string) {
	if t.times == nil {
		t.times = map[string]int{}
	}
	if t.times[name] == 0 {
		t.order = append(t.order, name)
	}
	t.times[name]++
}

// most are the names, those first that came most often.
func (t *tally) most() []string {
	slices.SortStableFunc(t.order, func(a, b string) int { return t.times[b] - t.times[a] })
	return t.order
}
