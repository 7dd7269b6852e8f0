package ec2api

import (
	"encoding/xml"
	"strconv"

	"github.com/understudy-dr/understudy/internal/control/sizes"
)

type instanceType struct {
	Name          string   `xml:"instanceType"`
	Current       bool     `xml:"currentGeneration"`
	BareMetal     bool     `xml:"bareMetal"`
	Hypervisor    string   `xml:"hypervisor"`
	VCPUs         int64    `xml:"vCpuInfo>defaultVCpus"`
	Cores         int64    `xml:"vCpuInfo>defaultCores"`
	Threads       int64    `xml:"vCpuInfo>defaultThreadsPerCore"`
	MemoryMiB     int64    `xml:"memoryInfo>sizeInMiB"`
	Architectures []string `xml:"processorInfo>supportedArchitectures>item"`
	BootModes     []string `xml:"supportedBootModes>item"`
	RootDevices   []string `xml:"supportedRootDeviceTypes>item"`
	UsageClasses  []string `xml:"supportedUsageClasses>item"`
	Virtual       []string `xml:"supportedVirtualizationTypes>item"`
}

type typesAnswer struct {
	XMLName xml.Name
	header
	Items []instanceType `xml:"instanceTypeSet>item"`
	Next  string         `xml:"nextToken,omitempty"`
}

// sizeFacts are the values of the filters; sizes have no tags.
func sizeFacts(s sizes.Size) facts {
	return func(name string) ([]string, bool) {
		switch name {
		case "instance-type":
			return []string{s.Name}, true
		case "current-generation":
			return []string{strconv.FormatBool(s.Current)}, true
		case "processor-info.supported-architecture":
			return []string{s.Architecture}, true
		case "vcpu-info.default-vcpus":
			return []string{strconv.FormatInt(s.VCPUs, 10)}, true
		case "memory-info.size-in-mib":
			return []string{strconv.FormatInt(s.MemoryMiB, 10)}, true
		case "bare-metal":
			return []string{"false"}, true
		case "supported-usage-class":
			return []string{"on-demand"}, true
		case "supported-virtualization-type":
			return []string{"hvm"}, true
		}
		return nil, false
	}
}

// describeInstanceTypes shows the catalogue. A type that is asked for by name and only follows the rule of
// names is shown too: it can be launched.
func (c *call) describeInstanceTypes() (any, error) {
	if err := c.may(); err != nil {
		return nil, err
	}
	all, wanted := c.Sizes.All(), c.form.List("InstanceType")
	for _, name := range wanted {
		if _, ok := c.Sizes.Find(name); ok {
			continue
		}
		if s, ok := c.Sizes.Resolve(name); ok {
			all = append(all, s)
		}
	}
	found, err := chosen(all, wanted, func(s sizes.Size) string { return s.Name }, "InvalidInstanceType", c.filters(), sizeFacts)
	if err != nil {
		return nil, err
	}
	page, next, err := cut(c, found)
	out := typesAnswer{XMLName: c.name, header: c.header, Next: next}
	for _, s := range page {
		out.Items = append(out.Items, shownSize(s))
	}
	return out, err
}

func shownSize(s sizes.Size) instanceType {
	t := instanceType{Name: s.Name, Current: s.Current, Hypervisor: "kvm", VCPUs: s.VCPUs, Cores: s.VCPUs, Threads: 1, MemoryMiB: s.MemoryMiB,
		Architectures: []string{s.Architecture}, BootModes: []string{"uefi"}, RootDevices: []string{"ebs"}, UsageClasses: []string{"on-demand"},
		Virtual: []string{"hvm"}}
	if s.Architecture == sizes.X86 {
		t.BootModes = []string{"legacy-bios", "uefi"}
	}
	return t
}
