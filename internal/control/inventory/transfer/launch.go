package transfer

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/state"
)

// Columns of what is launched, behind mgn:launch:.
const (
	partType         = "instance-type"
	partProfile      = "iam-instance-profile:name"
	partNIC          = "nic:"
	partHost         = "placement:host-id"
	partTenancy      = "placement:tenancy"
	partLicensing    = "placement:operating-system-licensing"
	partInstanceTag  = "tag:instance:"
	partVolume       = "volume:"
	partTransferTags = "transfer-server-tags"

	nicInterface = "network-interface-id"
	nicSubnet    = "subnet-id"
	nicGroup     = "security-group-id:"
	nicAddress   = "private-ip:"
	volumeType   = ":type"

	ownLicence      = "BYOL"
	includedLicence = "LI"
	instance        = "instance"
)

// serviceTag begins the tags that the service itself gives a launched machine: they are of one server for good.
const serviceTag = "AWSApplicationMigrationService"

// maxNICs bounds the numbers in column names.
const maxNICs = 32

// nic is what a row says of one network card; groups and addresses by their numbers.
type nic struct {
	interfaceID, subnet string
	groups, addresses   map[int]string
}

// launch is what a row says of a server's launches.
type launch struct {
	size, profile, host, tenancy string
	ownLicence, copyTags         *bool
	nics                         map[int]*nic
	tags                         map[string]string
	volumes                      map[string]string // device -> type
}

func (l *launch) said() bool {
	return l.size != "" || l.profile != "" || l.host != "" || l.tenancy != "" || l.ownLicence != nil || l.copyTags != nil ||
		l.nics != nil || l.tags != nil || l.volumes != nil
}

func (l *launch) set(part, value string) error {
	switch part {
	case partType:
		l.size = value
	case partProfile:
		l.profile = value
	case partHost:
		l.host = value
	case partTenancy:
		l.tenancy = value
		return oneOf(value, "default", "dedicated", "host")
	case partLicensing:
		l.ownLicence = new(value == ownLicence)
		return oneOf(value, includedLicence, ownLicence)
	case partTransferTags:
		copied, err := strconv.ParseBool(strings.ToLower(value))
		l.copyTags = &copied
		if err != nil {
			return oneOf(value, "true", "false")
		}
	default:
		return l.setPart(part, value)
	}
	return nil
}

func (l *launch) setPart(part, value string) error {
	if key, ok := strings.CutPrefix(part, partInstanceTag); ok {
		return tag(&l.tags, key, value)
	}
	if device, ok := strings.CutPrefix(part, partVolume); ok {
		device, ok = strings.CutSuffix(device, volumeType)
		if !ok || device == "" {
			return errUnknownColumn
		}
		if l.volumes == nil {
			l.volumes = map[string]string{}
		}
		l.volumes[device] = value
		return oneOf(value, "io1", "io2", "gp3", "gp2", "st1", "sc1", "standard")
	}
	if card, ok := strings.CutPrefix(part, partNIC); ok {
		number, what, _ := strings.Cut(card, ":")
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 || n >= maxNICs {
			return errUnknownColumn
		}
		return l.card(n).set(what, value)
	}
	return errUnknownColumn
}

func (l *launch) card(n int) *nic {
	if l.nics == nil {
		l.nics = map[int]*nic{}
	}
	if l.nics[n] == nil {
		l.nics[n] = &nic{groups: map[int]string{}, addresses: map[int]string{}}
	}
	return l.nics[n]
}

func (n *nic) set(what, value string) error {
	switch what {
	case nicInterface:
		n.interfaceID = value
		return nil
	case nicSubnet:
		n.subnet = value
		return nil
	}
	if number, ok := strings.CutPrefix(what, nicGroup); ok {
		return numbered(n.groups, number, value)
	}
	if number, ok := strings.CutPrefix(what, nicAddress); ok {
		if err := numbered(n.addresses, number, value); err != nil {
			return err
		}
		if ip, err := netip.ParseAddr(value); err != nil || !ip.Is4() {
			return errors.New("is no IPv4 address")
		}
		return nil
	}
	return errUnknownColumn
}

func numbered(to map[int]string, number, value string) error {
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || n >= maxNICs {
		return errUnknownColumn
	}
	to[n] = value
	return nil
}

func inOrder(m map[int]string) (out []string) {
	for _, n := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[n])
	}
	return out
}

// template does to a launch template what the row says, and leaves the rest. The lists of d may be shared: they are
// replaced and not changed.
func (l *launch) template(d *state.LaunchTemplateData) {
	d.InstanceType = cmp.Or(l.size, d.InstanceType)
	if l.profile != "" && (d.IAMInstanceProfile == nil || d.IAMInstanceProfile.Name != l.profile) {
		d.IAMInstanceProfile = &state.InstanceProfile{Name: l.profile}
	}
	if l.host != "" || l.tenancy != "" {
		p := state.TemplatePlacement{}
		if d.Placement != nil {
			p = *d.Placement
		}
		p.HostID, p.Tenancy = cmp.Or(l.host, p.HostID), cmp.Or(l.tenancy, p.Tenancy)
		d.Placement = &p
	}
	d.NetworkInterfaces = l.cards(slices.Clone(d.NetworkInterfaces))
	if l.tags != nil {
		d.TagSpecifications = l.instanceTags(slices.Clone(d.TagSpecifications))
	}
	d.BlockDeviceMappings = l.mappings(slices.Clone(d.BlockDeviceMappings))
}

func (l *launch) cards(list []state.TemplateNetworkInterface) []state.TemplateNetworkInterface {
	for _, number := range slices.Sorted(maps.Keys(l.nics)) {
		said := l.nics[number]
		i := slices.IndexFunc(list, func(n state.TemplateNetworkInterface) bool {
			return n.DeviceIndex != nil && *n.DeviceIndex == int64(number)
		})
		if i < 0 {
			list = append(list, state.TemplateNetworkInterface{DeviceIndex: new(int64(number)), DeleteOnTermination: new(true)})
			i = len(list) - 1
		}
		n := &list[i]
		n.NetworkInterfaceID, n.SubnetID = cmp.Or(said.interfaceID, n.NetworkInterfaceID), cmp.Or(said.subnet, n.SubnetID)
		if groups := inOrder(said.groups); groups != nil {
			n.Groups = groups
		}
		if addresses := inOrder(said.addresses); addresses != nil && !slices.Equal(addresses, addressesOf(*n)) {
			n.PrivateIPAddress, n.PrivateIPAddresses = addresses[0], nil
			if len(addresses) > 1 {
				n.PrivateIPAddress = ""
				for j, a := range addresses {
					n.PrivateIPAddresses = append(n.PrivateIPAddresses, state.TemplateAddress{PrivateIPAddress: a, Primary: new(j == 0)})
				}
			}
		}
	}
	return list
}

func addressesOf(n state.TemplateNetworkInterface) (out []string) {
	if n.PrivateIPAddress != "" {
		out = append(out, n.PrivateIPAddress)
	}
	for _, a := range n.PrivateIPAddresses {
		out = append(out, a.PrivateIPAddress)
	}
	return out
}

func (l *launch) instanceTags(list []state.TemplateTags) []state.TemplateTags {
	i := slices.IndexFunc(list, func(s state.TemplateTags) bool { return s.ResourceType == instance })
	if i < 0 {
		list = append(list, state.TemplateTags{ResourceType: instance})
		i = len(list) - 1
	}
	tags := slices.Clone(list[i].Tags)
	for _, key := range slices.Sorted(maps.Keys(l.tags)) {
		if at := slices.IndexFunc(tags, func(t state.Tag) bool { return t.Key == key }); at >= 0 {
			tags[at].Value = l.tags[key]
			continue
		}
		tags = append(tags, state.Tag{Key: key, Value: l.tags[key]})
	}
	list[i].Tags = tags
	return list
}

func (l *launch) mappings(list []state.BlockDeviceMapping) []state.BlockDeviceMapping {
	for _, device := range slices.Sorted(maps.Keys(l.volumes)) {
		i := slices.IndexFunc(list, func(m state.BlockDeviceMapping) bool { return m.DeviceName == device })
		if i < 0 {
			list = append(list, state.BlockDeviceMapping{DeviceName: device})
			i = len(list) - 1
		}
		volume := state.EBSBlockDevice{}
		if list[i].EBS != nil {
			volume = *list[i].EBS
		}
		volume.VolumeType = l.volumes[device]
		list[i].EBS = &volume
	}
	return list
}

// patch is what the row says of the launch configuration.
func (l *launch) patch() (p launchconfig.MGNPatch, any bool) {
	p.OSByol, p.CopyTags = l.ownLicence, l.copyTags
	return p, p.OSByol != nil || p.CopyTags != nil
}

// launchOf is what a server's launch template and configuration say, for an export.
func launchOf(d state.LaunchTemplateData, c state.MGNLaunchConfig) map[string]string {
	out := map[string]string{partType: d.InstanceType, partTransferTags: strconv.FormatBool(c.CopyTags), partLicensing: includedLicence}
	if c.OSByol {
		out[partLicensing] = ownLicence
	}
	if d.IAMInstanceProfile != nil {
		out[partProfile] = d.IAMInstanceProfile.Name
	}
	if d.Placement != nil {
		out[partHost], out[partTenancy] = d.Placement.HostID, d.Placement.Tenancy
	}
	for _, n := range d.NetworkInterfaces {
		if n.DeviceIndex != nil {
			cardOf(n, partNIC+strconv.FormatInt(*n.DeviceIndex, 10)+":", out)
		}
	}
	for _, s := range d.TagSpecifications {
		for _, t := range s.Tags {
			if s.ResourceType == instance && !strings.HasPrefix(t.Key, serviceTag) {
				out[partInstanceTag+t.Key] = t.Value
			}
		}
	}
	for _, m := range d.BlockDeviceMappings {
		if m.EBS != nil {
			out[partVolume+m.DeviceName+volumeType] = m.EBS.VolumeType
		}
	}
	return out
}

func cardOf(n state.TemplateNetworkInterface, prefix string, out map[string]string) {
	out[prefix+nicInterface], out[prefix+nicSubnet] = n.NetworkInterfaceID, n.SubnetID
	for i, g := range n.Groups {
		out[prefix+nicGroup+strconv.Itoa(i)] = g
	}
	for i, a := range addressesOf(n) {
		out[prefix+nicAddress+strconv.Itoa(i)] = a
	}
}
