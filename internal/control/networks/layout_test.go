package networks_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control/networks"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// made is a template as its reader sees it.
type made struct {
	Description string
	Parameters  map[string]struct{ Description string }
	Conditions  map[string]any
	Resources   map[string]struct {
		Type, Condition, DependsOn string
		Properties                 map[string]any
	}
	Outputs map[string]any
}

func template(t *testing.T, v state.SourceNetwork) (m made) {
	t.Helper()
	body, err := networks.Template(v)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(body, &m))
	return m
}

// at is a network of servers with one address each.
func at(tag string, ips ...string) state.SourceNetwork {
	v := state.SourceNetwork{ID: "sn-1", Tags: map[string]string{networks.PrefixTag: tag}}
	for _, ip := range ips {
		v.Facts.Hosts = append(v.Facts.Hosts, state.NetworkHost{NICs: []state.NIC{{MAC: ip, IPs: []string{ip}}}})
	}
	return v
}

// target is the resource that a property refers to.
func target(p any) string { return p.(map[string]any)["Ref"].(string) }

// vpcs are the blocks of each VPC, the primary one first, and what is in which subnet is checked on the way.
func (m made) vpcs(t *testing.T) map[string][]string {
	t.Helper()
	out, secondary := map[string][]string{}, map[string]string{}
	for name, r := range m.Resources {
		if r.Type == "AWS::EC2::VPC" {
			out[name] = []string{r.Properties["CidrBlock"].(string)}
		}
	}
	for i := range 4 {
		for name := range out {
			key := fmt.Sprintf("%sBlock%d", name, i+1)
			if r, have := m.Resources[key]; have {
				require.Equal(t, "AWS::EC2::VPCCidrBlock", r.Type)
				require.Equal(t, name, target(r.Properties["VpcId"]))
				secondary[key] = r.Properties["CidrBlock"].(string)
				out[name] = append(out[name], secondary[key])
			}
		}
	}
	for name, r := range m.Resources {
		if r.Type == "AWS::EC2::Subnet" {
			block := out[target(r.Properties["VpcId"])][0]
			if r.DependsOn != "" {
				block = secondary[r.DependsOn]
			}
			require.Equal(t, first(block, 2), first(r.Properties["CidrBlock"].(string), 2), "%s is where it waits for", name)
		}
	}
	return out
}

// first are the first bytes of an address.
func first(address string, n int) string { return strings.Join(strings.Split(address, ".")[:n], ".") }

func TestBlocksOfVPCs(t *testing.T) {
	for name, c := range map[string]struct {
		network state.SourceNetwork
		want    map[string][]string
	}{
		"one range, one block":   {at("", "10.1.0.7", "10.1.2.9"), map[string][]string{"Vpc": {"10.1.0.0/22"}}},
		"far apart in one range": {at("", "10.99.0.1", "10.1.0.1"), map[string][]string{"Vpc": {"10.1.0.0/24", "10.99.0.0/24"}}},
		"across the edge of /16": {at("", "10.1.255.1", "10.2.0.1"), map[string][]string{"Vpc": {"10.1.255.0/24", "10.2.0.0/24"}}},
		"two private ranges":     {at("", "192.168.1.1", "10.1.0.1"), map[string][]string{"Vpc": {"10.1.0.0/24"}, "Vpc1": {"192.168.1.0/24"}}},
		"public ones join":       {at("", "100.64.3.1", "192.168.1.1", "8.8.8.8"), map[string][]string{"Vpc": {"192.168.1.0/24", "8.8.8.0/24", "100.64.3.0/24"}}},
		"public ones alone":      {at("", "100.64.3.1", "8.8.8.8"), map[string][]string{"Vpc": {"8.8.8.0/24", "100.64.3.0/24"}}},
		"198.19 beside a private one": {at("", "198.19.0.1", "198.18.0.1", "172.20.0.1"),
			map[string][]string{"Vpc": {"172.20.0.0/24", "198.18.0.0/24"}, "Vpc1": {"198.19.0.0/24"}}},
		"172.31 has to be first":          {at("", "172.16.0.1", "172.31.0.1"), map[string][]string{"Vpc": {"172.31.0.0/24", "172.16.0.0/24"}}},
		"a tag that is wider than a VPC":  {at("10.0.0.0/8", "10.0.4.1", "10.9.0.1"), map[string][]string{"Vpc": {"10.0.4.0/24", "10.9.0.0/24"}}},
		"a wide one, and one of a subnet": {at("10.0.0.0/8,10.9.0.0/20", "10.0.4.1", "10.9.0.1"), map[string][]string{"Vpc": {"10.0.4.0/24", "10.9.0.0/20"}}},
		"public ones go where there is room": {at("", "10.1.0.1", "10.2.0.1", "10.3.0.1", "10.4.0.1", "8.8.8.8", "9.9.9.9"),
			map[string][]string{"Vpc": {"10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24", "10.4.0.0/24", "8.8.8.0/24"}, "Vpc1": {"9.9.9.0/24"}}},
	} {
		t.Run(name, func(t *testing.T) {
			m := template(t, c.network)
			require.Equal(t, c.want, m.vpcs(t))
			require.Equal(t, len(c.want) > 1, strings.Contains(m.Description, "ranges that AWS does not let one VPC have"), m.Description)
			require.LessOrEqual(t, len(m.Description), 1024, "CloudFormation's limit")
			for vpc := range c.want {
				n := strings.TrimPrefix(vpc, "Vpc")
				require.Equal(t, vpc, target(m.Resources["RouteTable"+n].Properties["VpcId"]))
				require.Equal(t, vpc, target(m.Resources["SecurityGroup"+n].Properties["VpcId"]))
				require.Contains(t, m.Outputs, vpc+"Id")
			}
		})
	}
}

// Whatever is referred to is there, and a route is in the VPC of its router.
func TestRoutesOfSeveralVPCs(t *testing.T) {
	v := at("", "10.1.0.7", "192.168.1.7")
	v.Facts.Hosts[0].Routes = []state.Route{{Destination: "0.0.0.0/0", Gateway: "10.1.0.1"}, {Destination: "10.50.0.0/16", Gateway: "10.1.0.2"}}
	v.Facts.Hosts[1].Routes = []state.Route{{Destination: "10.60.0.0/16", Gateway: "192.168.1.2"}, {Destination: "0.0.0.0/0", Gateway: "192.168.1.1"},
		{Destination: "10.70.0.0/16", Gateway: "172.16.0.1"}}
	v.Facts.Hosts[1].Resolver.Servers = []string{"192.168.1.53"}
	m := template(t, v)
	require.Equal(t, "RouteTable", target(m.Resources["Route0"].Properties["RouteTableId"]))
	require.Equal(t, "RouteTable", target(m.Resources["Route1"].Properties["RouteTableId"]), "a router of nowhere")
	require.Equal(t, "10.70.0.0/16", m.Resources["Route1"].Properties["DestinationCidrBlock"])
	require.Equal(t, "RouteTable1", target(m.Resources["Route2"].Properties["RouteTableId"]))
	require.Equal(t, "10.60.0.0/16", m.Resources["Route2"].Properties["DestinationCidrBlock"])
	require.Contains(t, m.Parameters["Internet"].Description, "10.1.0.1")
	require.Contains(t, m.Parameters["Internet1"].Description, "192.168.1.1")
	require.Equal(t, "Vpc1", target(m.Resources["InternetGatewayOfVpc1"].Properties["VpcId"]))
	require.Equal(t, "Vpc1", target(m.Resources["NamesOfVpc1"].Properties["VpcId"]))
	for name, r := range m.Resources {
		if r.Condition != "" {
			require.Contains(t, m.Conditions, r.Condition, name)
		}
		if r.DependsOn != "" {
			require.Contains(t, m.Resources, r.DependsOn, name)
		}
		for property, value := range r.Properties {
			if to, is := value.(map[string]any); is {
				_, parameter := m.Parameters[to["Ref"].(string)]
				_, resource := m.Resources[to["Ref"].(string)]
				require.True(t, parameter || resource, "%s of %s", property, name)
			}
		}
	}
}

func TestMoreBlocksThanAVPCHas(t *testing.T) {
	ips := []string{"10.1.0.1", "10.2.0.1", "10.3.0.1", "10.4.0.1", "10.5.0.1"}
	require.Len(t, template(t, at("", ips...)).vpcs(t)["Vpc"], 5)
	_, err := networks.Template(at("", append(slices.Clone(ips), "10.6.0.1")...))
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
	require.ErrorContains(t, err, "in 6 blocks")
	require.Contains(t, fault.HintOf(err), networks.PrefixTag)
}
