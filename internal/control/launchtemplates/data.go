package launchtemplates

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Bounds of what a version may hold.
const (
	maxInterfaces = 16
	maxMappings   = 64
	maxTags       = 50
	maxUserData   = 64 << 10 // base64 of more than EC2's 16 KiB
	maxText       = 1024
)

func fields(name, message string) *control.FieldError {
	return &control.FieldError{Fields: []control.Field{{Name: name, Message: message}}}
}

// Merge is base with the members that over sets.
func Merge(base, over state.LaunchTemplateData) state.LaunchTemplateData {
	to, from := reflect.ValueOf(&base).Elem(), reflect.ValueOf(over)
	for i := range to.NumField() {
		if !from.Field(i).IsZero() {
			to.Field(i).Set(from.Field(i))
		}
	}
	return base
}

// check refuses what no launch could follow.
func (t *Templates) check(d state.LaunchTemplateData) error {
	var bad []control.Field
	add := func(name, format string, args ...any) {
		bad = append(bad, control.Field{Name: name, Message: fmt.Sprintf(format, args...)})
	}
	if _, ok := t.sizes.Resolve(d.InstanceType); d.InstanceType != "" && !ok {
		add("InstanceType", "%q is no size: neither in the catalogue nor named like one", d.InstanceType)
	}
	if len(d.NetworkInterfaces) > maxInterfaces {
		add("NetworkInterface", "must be at most %d", maxInterfaces)
	}
	if len(d.NetworkInterfaces) > 0 && len(d.SecurityGroupIDs)+len(d.SecurityGroups) > 0 {
		add("SecurityGroupId", "must be given with the network interfaces when there are any")
	}
	for i, n := range d.NetworkInterfaces {
		for _, a := range append([]state.TemplateAddress{{PrivateIPAddress: n.PrivateIPAddress}}, n.PrivateIPAddresses...) {
			if ip, err := netip.ParseAddr(a.PrivateIPAddress); a.PrivateIPAddress != "" && (err != nil || !ip.Is4()) {
				add(fmt.Sprintf("NetworkInterface.%d.PrivateIpAddress", i+1), "%q is no IPv4 address", a.PrivateIPAddress)
			}
		}
	}
	if len(d.BlockDeviceMappings) > maxMappings {
		add("BlockDeviceMapping", "must be at most %d", maxMappings)
	}
	for i, m := range d.BlockDeviceMappings {
		if m.EBS != nil && m.EBS.VolumeSize != nil && (*m.EBS.VolumeSize < 1 || *m.EBS.VolumeSize > 65536) {
			add(fmt.Sprintf("BlockDeviceMapping.%d.Ebs.VolumeSize", i+1), "must be 1 to 65536")
		}
	}
	for i, s := range d.TagSpecifications {
		if len(s.Tags) > maxTags {
			add(fmt.Sprintf("TagSpecification.%d", i+1), "must have at most %d tags", maxTags)
		}
	}
	if len(d.UserData) > maxUserData {
		add("UserData", "must be at most %d characters", maxUserData)
	}
	d.UserData = ""
	if name := overlong(reflect.ValueOf(d), ""); name != "" {
		add(name, "must be UTF-8 text of at most %d bytes", maxText)
	}
	if len(bad) > 0 {
		return fault.New(fault.Invalid, "launch templates", "%w", &control.FieldError{Fields: bad})
	}
	return nil
}

// overlong is the path of some text that is too long or no text, or "".
func overlong(v reflect.Value, path string) string {
	switch v.Kind() {
	case reflect.String:
		if v.Len() > maxText || !utf8.ValidString(v.String()) {
			return strings.TrimPrefix(path, ".")
		}
	case reflect.Pointer:
		if !v.IsNil() {
			return overlong(v.Elem(), path)
		}
	case reflect.Slice:
		for i := range v.Len() {
			if bad := overlong(v.Index(i), fmt.Sprintf("%s.%d", path, i+1)); bad != "" {
				return bad
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if bad := overlong(v.Field(i), path+"."+v.Type().Field(i).Name); bad != "" {
				return bad
			}
		}
	}
	return ""
}
