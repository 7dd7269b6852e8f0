package networks

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
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
	subnets    int
}

func newBuilder(name string) *builder {
	return &builder{name: []map[string]string{{"Key": "Name", "Value": name}}, parameters: map[string]any{}, conditions: map[string]any{},
		resources: map[string]resourceEntry{}, outputs: map[string]any{}}
}

func ref(name string) map[string]string { return map[string]string{"Ref": name} }

func (b *builder) add(name, kind string, properties map[string]any, condition ...string) {
	b.resources[name] = resourceEntry{Type: kind, Condition: strings.Join(condition, ""), Properties: properties}
}

// network makes the VPC, its subnets and what says who reaches whom.
func (b *builder) network(vpc netip.Prefix, subnets []netip.Prefix) {
	b.add("Vpc", "AWS::EC2::VPC", map[string]any{"CidrBlock": vpc.String(), "EnableDnsSupport": true, "EnableDnsHostnames": true, "Tags": b.name})
	b.outputs["VpcId"] = map[string]any{"Value": ref("Vpc")}
	b.add("RouteTable", "AWS::EC2::RouteTable", map[string]any{"VpcId": ref("Vpc"), "Tags": b.name})
	b.subnets = len(subnets)
	for i, p := range subnets {
		key := fmt.Sprintf("Subnet%d", i)
		b.add(key, "AWS::EC2::Subnet", map[string]any{"VpcId": ref("Vpc"), "CidrBlock": p.String(), "Tags": b.name})
		b.add(key+"Routes", "AWS::EC2::SubnetRouteTableAssociation", map[string]any{"SubnetId": ref(key), "RouteTableId": ref("RouteTable")})
		b.outputs[key+"Id"] = map[string]any{"Value": ref(key)}
	}
	b.add("SecurityGroup", "AWS::EC2::SecurityGroup", map[string]any{"VpcId": ref("Vpc"), "GroupDescription": "Everybody in the source network", "Tags": b.name})
	b.add("SecurityGroupMembers", "AWS::EC2::SecurityGroupIngress", map[string]any{"GroupId": ref("SecurityGroup"), "IpProtocol": "-1",
		"SourceSecurityGroupId": ref("SecurityGroup")})
	b.outputs["SecurityGroupId"] = map[string]any{"Value": ref("SecurityGroup")}
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
	b.add("NamesOfVpc", "AWS::EC2::VPCDHCPOptionsAssociation", map[string]any{"VpcId": ref("Vpc"), "DhcpOptionsId": ref("Names")}, "SourceNames")
}

// routes makes what leads out of the network. What stands for a source's router has no name here: it is a parameter, and
// there is no route without it.
func (b *builder) routes(f state.NetworkFacts) {
	ways := map[string]map[string]bool{} // gateways by destination
	for _, h := range f.Hosts {
		for _, r := range h.Routes {
			if to, err := netip.ParsePrefix(r.Destination); err == nil && to.Addr().Is4() {
				if ways[to.String()] == nil {
					ways[to.String()] = map[string]bool{}
				}
				ways[to.String()][r.Gateway] = true
			}
		}
	}
	n := 0
	for _, to := range slices.Sorted(maps.Keys(ways)) {
		by := strings.Join(slices.Sorted(maps.Keys(ways[to])), ", ")
		if to == defaultRoute {
			b.internet(by)
			continue
		}
		key := fmt.Sprintf("Route%d", n)
		n++
		b.parameters[key+"Interface"] = map[string]any{"Type": "String", "Default": "",
			"Description": "Network interface of what stands for the router " + by + ", which leads to " + to + "; without it there is no such route"}
		b.conditions["Has"+key] = map[string]any{"Fn::Not": []any{equals(key+"Interface", "")}}
		b.add(key, "AWS::EC2::Route", map[string]any{"RouteTableId": ref("RouteTable"), "DestinationCidrBlock": to, "NetworkInterfaceId": ref(key + "Interface")}, "Has"+key)
	}
}

// internet makes the default route, where the source had one and the user wants it.
func (b *builder) internet(by string) {
	const wanted = "HasInternet"
	b.parameters["Internet"] = choice("whether there is an internet gateway; the source's default route is by "+by, "no", "yes")
	b.conditions[wanted] = equals("Internet", "yes")
	b.add("InternetGateway", "AWS::EC2::InternetGateway", map[string]any{"Tags": b.name}, wanted)
	b.add("InternetGatewayOfVpc", "AWS::EC2::VPCGatewayAttachment", map[string]any{"VpcId": ref("Vpc"), "InternetGatewayId": ref("InternetGateway")}, wanted)
	b.resources["DefaultRoute"] = resourceEntry{Type: "AWS::EC2::Route", Condition: wanted, DependsOn: "InternetGatewayOfVpc",
		Properties: map[string]any{"RouteTableId": ref("RouteTable"), "DestinationCidrBlock": defaultRoute, "GatewayId": ref("InternetGateway")}}
}

func choice(what, first, second string) map[string]any {
	return map[string]any{"Type": "String", "Default": first, "AllowedValues": []string{first, second}, "Description": "Says " + what}
}

func equals(parameter, value string) map[string]any {
	return map[string]any{"Fn::Equals": []any{ref(parameter), value}}
}

// document is the template.
func (b *builder) document(v state.SourceNetwork) map[string]any {
	out := map[string]any{
		"AWSTemplateFormatVersion": "2010-09-09",
		"Description":              "Source network " + v.ID + ", as its source servers' networks were at " + v.ObservedAt.Format(time.RFC3339),
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
