package ec2api

import (
	"context"
	"encoding/xml"
	"time"

	"github.com/understudy-dr/understudy/internal/control/hostnets"
)

// Machine is a machine that was launched.
type Machine struct {
	ID           string // i-...
	Type         string
	Architecture string
	State        string // pending, running, shutting-down, terminated, stopping, stopped
	SubnetID     string
	PrivateIP    string
	MAC          string
	Groups       []string // ids of security groups
	Host         string
	LaunchedAt   time.Time
	Tags         map[string]string
}

// Machines knows what was launched.
type Machines interface {
	Machines(ctx context.Context, account string) ([]Machine, error)
}

var stateCodes = map[string]int{"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}

type instanceState struct {
	Code int    `xml:"code"`
	Name string `xml:"name"`
}

type groupRef struct {
	ID   string `xml:"groupId"`
	Name string `xml:"groupName"`
}

type instance struct {
	ID           string        `xml:"instanceId"`
	State        instanceState `xml:"instanceState"`
	Type         string        `xml:"instanceType"`
	Architecture string        `xml:"architecture"`
	LaunchedAt   instant       `xml:"launchTime"`
	Zone         string        `xml:"placement>availabilityZone"`
	SubnetID     string        `xml:"subnetId,omitempty"`
	NetworkID    string        `xml:"vpcId,omitempty"`
	PrivateIP    string        `xml:"privateIpAddress,omitempty"`
	Groups       []groupRef    `xml:"groupSet>item"`
	Interfaces   []card        `xml:"networkInterfaceSet>item"`
	Hypervisor   string        `xml:"hypervisor"`
	Tags         []tag         `xml:"tagSet>item"`
}

type card struct {
	MAC       string `xml:"macAddress"`
	PrivateIP string `xml:"privateIpAddress,omitempty"`
	SubnetID  string `xml:"subnetId,omitempty"`
	NetworkID string `xml:"vpcId,omitempty"`
	Status    string `xml:"status"`
}

type reservation struct {
	ID        string     `xml:"reservationId"`
	Owner     string     `xml:"ownerId"`
	Instances []instance `xml:"instancesSet>item"`
}

type instancesAnswer struct {
	XMLName xml.Name
	header
	Reservations []reservation `xml:"reservationSet>item"`
	Next         string        `xml:"nextToken,omitempty"`
}

func (c *call) describeInstances() (any, error) {
	if err := c.may(); err != nil {
		return nil, err
	}
	var all []Machine
	if c.Machines != nil {
		var err error
		if all, err = c.Machines.Machines(c.ctx, c.who.Account); err != nil {
			return nil, err
		}
	}
	found, err := chosen(all, c.form.List("InstanceId"), func(m Machine) string { return m.ID }, "InvalidInstanceID.NotFound", c.filters(), c.machineFacts)
	if err != nil {
		return nil, err
	}
	page, next, err := cut(c, found)
	if err != nil {
		return nil, err
	}
	out := instancesAnswer{XMLName: c.name, header: c.header, Next: next}
	for _, m := range page { // each was launched by itself
		out.Reservations = append(out.Reservations, reservation{ID: "r-" + m.ID[min(2, len(m.ID)):], Owner: c.who.Account, Instances: []instance{c.instance(m)}})
	}
	return out, nil
}

func (c *call) instance(m Machine) instance {
	_, n, _ := c.Networks.Subnet(m.SubnetID)
	out := instance{ID: m.ID, State: instanceState{stateCodes[m.State], m.State}, Type: m.Type, Architecture: m.Architecture,
		LaunchedAt: instant(m.LaunchedAt), Zone: zone(m.Host, c.Region), SubnetID: m.SubnetID, NetworkID: n.ID, PrivateIP: m.PrivateIP,
		Hypervisor: "kvm", Tags: shownTags(m.Tags)}
	for _, id := range m.Groups {
		out.Groups = append(out.Groups, groupRef{id, c.groupName(id)})
	}
	if m.MAC != "" {
		out.Interfaces = []card{{m.MAC, m.PrivateIP, m.SubnetID, n.ID, "in-use"}}
	}
	return out
}

func (c *call) machineFacts(m Machine) facts {
	return func(name string) ([]string, bool) {
		switch name {
		case "instance-id":
			return []string{m.ID}, true
		case "instance-type":
			return []string{m.Type}, true
		case "instance-state-name":
			return []string{m.State}, true
		case "private-ip-address":
			return []string{m.PrivateIP}, true
		case "subnet-id":
			return []string{m.SubnetID}, true
		case "vpc-id":
			_, n, _ := c.Networks.Subnet(m.SubnetID)
			return []string{n.ID}, true
		case "instance.group-id":
			return m.Groups, true
		}
		return tagFacts(m.Tags, name)
	}
}

func (c *call) groupName(id string) string {
	for _, g := range c.Networks.Groups() {
		if g.ID == id {
			return g.Name
		}
	}
	return ""
}

// zone is what clients take for the availability zone: the launch host, or the only one there is.
func zone(host, region string) string {
	if host == "" {
		return region + "a"
	}
	return host
}

type subnet struct {
	ID        string `xml:"subnetId"`
	ARN       string `xml:"subnetArn"`
	NetworkID string `xml:"vpcId"`
	CIDR      string `xml:"cidrBlock"`
	Zone      string `xml:"availabilityZone"`
	State     string `xml:"state"`
	Owner     string `xml:"ownerId"`
	Public    bool   `xml:"mapPublicIpOnLaunch"`
	Tags      []tag  `xml:"tagSet>item"`
}

type subnetsAnswer struct {
	XMLName xml.Name
	header
	Items []subnet `xml:"subnetSet>item"`
	Next  string   `xml:"nextToken,omitempty"`
}

func (c *call) describeSubnets() (any, error) {
	if err := c.may(); err != nil {
		return nil, err
	}
	found, err := chosen(c.Networks.Subnets(), c.form.List("SubnetId"), func(s hostnets.Subnet) string { return s.ID }, "InvalidSubnetID.NotFound",
		c.filters(), func(s hostnets.Subnet) facts {
			return func(name string) ([]string, bool) {
				switch name {
				case "subnet-id":
					return []string{s.ID}, true
				case "vpc-id":
					return []string{s.Network}, true
				case "cidr", "cidr-block", "cidrBlock":
					return []string{s.CIDR}, true
				case "availability-zone", "availabilityZone":
					return []string{zone(s.Zone, c.Region)}, true
				case "state":
					return []string{"available"}, true
				}
				return tagFacts(named(s.Tags, s.Name), name)
			}
		})
	if err != nil {
		return nil, err
	}
	page, next, err := cut(c, found)
	out := subnetsAnswer{XMLName: c.name, header: c.header, Next: next}
	for _, s := range page {
		out.Items = append(out.Items, subnet{s.ID, "arn:aws:ec2:" + c.Region + ":" + c.who.Account + ":subnet/" + s.ID, s.Network, s.CIDR,
			zone(s.Zone, c.Region), "available", c.who.Account, false, shownTags(named(s.Tags, s.Name))})
	}
	return out, err
}

// named adds the tag that consoles show as a name.
func named(tags map[string]string, name string) map[string]string {
	out := map[string]string{"Name": name}
	for k, v := range tags {
		out[k] = v
	}
	return out
}

type permission struct {
	Protocol string  `xml:"ipProtocol"`
	From     *int64  `xml:"fromPort,omitempty"`
	To       *int64  `xml:"toPort,omitempty"`
	Ranges   []cidr4 `xml:"ipRanges>item"`
}

type cidr4 struct {
	CIDR string `xml:"cidrIp"`
}

type group struct {
	ID          string       `xml:"groupId"`
	Name        string       `xml:"groupName"`
	Description string       `xml:"groupDescription"`
	NetworkID   string       `xml:"vpcId"`
	Owner       string       `xml:"ownerId"`
	Ingress     []permission `xml:"ipPermissions>item"`
	Egress      []permission `xml:"ipPermissionsEgress>item"`
	Tags        []tag        `xml:"tagSet>item"`
}

type groupsAnswer struct {
	XMLName xml.Name
	header
	Items []group `xml:"securityGroupInfo>item"`
	Next  string  `xml:"nextToken,omitempty"`
}

func (c *call) describeSecurityGroups() (any, error) {
	if err := c.may(); err != nil {
		return nil, err
	}
	filters := c.filters()
	if names := c.form.List("GroupName"); len(names) > 0 {
		filters = append(filters, filter{"group-name", names})
	}
	found, err := chosen(c.Networks.Groups(), c.form.List("GroupId"), func(g hostnets.Group) string { return g.ID }, "InvalidGroup.NotFound",
		filters, func(g hostnets.Group) facts {
			return func(name string) ([]string, bool) {
				switch name {
				case "group-id":
					return []string{g.ID}, true
				case "group-name":
					return []string{g.Name}, true
				case "description":
					return []string{g.Description}, true
				case "vpc-id":
					return []string{g.Network}, true
				}
				return tagFacts(g.Tags, name)
			}
		})
	if err != nil {
		return nil, err
	}
	page, next, err := cut(c, found)
	out := groupsAnswer{XMLName: c.name, header: c.header, Next: next}
	for _, g := range page {
		v := group{ID: g.ID, Name: g.Name, Description: g.Description, NetworkID: g.Network, Owner: c.who.Account, Tags: shownTags(g.Tags),
			Egress: []permission{{Protocol: "-1", Ranges: []cidr4{{"0.0.0.0/0"}}}}}
		for _, r := range g.Ingress {
			v.Ingress = append(v.Ingress, shownRule(r))
		}
		out.Items = append(out.Items, v)
	}
	return out, err
}

func shownRule(r hostnets.Rule) permission {
	p := permission{Protocol: r.Protocol}
	if r.Protocol != "-1" {
		p.From, p.To = &r.From, &r.To
	}
	for _, c := range r.CIDRs {
		p.Ranges = append(p.Ranges, cidr4{c})
	}
	return p
}
