package ec2api

import (
	"encoding/xml"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/understudy-dr/understudy/internal/awsapi/query"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// The members of a launch template's data travel under EC2's names, which follow from the names of the
// record's fields: initialisms are written as words, and lists have names of their own.
var words = strings.NewReplacer("IPv6", "Ipv6", "KMS", "Kms", "RAM", "Ram", "IAM", "Iam", "EBS", "Ebs", "IOPS", "Iops", "HTTP", "Http",
	"AMDSEVSNP", "AmdSevSnp", "CPU", "Cpu", "API", "Api", "ARN", "Arn", "DNSAAAA", "DnsAAAA", "DNSA", "DnsA", "DNS", "Dns", "ID", "Id", "IP", "Ip")

// listName is what a list is called in a request, in an answer, and its elements there.
type listName struct{ query, xml, item string }

var lists = map[string]listName{
	"BlockDeviceMappings":   {"BlockDeviceMapping", "blockDeviceMappingSet", "item"},
	"NetworkInterfaces":     {"NetworkInterface", "networkInterfaceSet", "item"},
	"SecurityGroupIDs":      {"SecurityGroupId", "securityGroupIdSet", "item"},
	"SecurityGroups":        {"SecurityGroup", "securityGroupSet", "item"},
	"TagSpecifications":     {"TagSpecification", "tagSpecificationSet", "item"},
	"Tags":                  {"Tag", "tagSet", "item"},
	"LicenseSpecifications": {"LicenseSpecification", "licenseSet", "item"},
	"Groups":                {"SecurityGroupId", "groupSet", "groupId"},
	"PrivateIPAddresses":    {"PrivateIpAddresses", "privateIpAddressesSet", "item"},
	"IPv6Addresses":         {"Ipv6Addresses", "ipv6AddressesSet", "item"},
}

// data is a launch template's data as it is answered.
type data state.LaunchTemplateData

// MarshalXML writes the members that are set.
func (d data) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	return encode(e, start, reflect.ValueOf(state.LaunchTemplateData(d)))
}

func element(name string) xml.StartElement { return xml.StartElement{Name: xml.Name{Local: name}} }

func encode(e *xml.Encoder, start xml.StartElement, v reflect.Value) error {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return e.EncodeElement(v.Interface(), start)
	}
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		if f.IsZero() {
			continue
		}
		if f.Kind() == reflect.Slice {
			if err := encodeList(e, lists[name], f); err != nil {
				return err
			}
			continue
		}
		word := words.Replace(name)
		if err := encode(e, element(strings.ToLower(word[:1])+word[1:]), f); err != nil {
			return err
		}
	}
	return e.EncodeToken(start.End())
}

func encodeList(e *xml.Encoder, name listName, v reflect.Value) error {
	start := element(name.xml)
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	for i := range v.Len() {
		if err := encode(e, element(name.item), v.Index(i)); err != nil {
			return err
		}
	}
	return e.EncodeToken(start.End())
}

// dataMember is where a request has its data.
const dataMember = "LaunchTemplateData"

// readData reads the data of a request. A member that is not kept here is refused: a launch would not
// follow it.
func readData(form query.Form) (state.LaunchTemplateData, error) {
	var d state.LaunchTemplateData
	r := reader{form: form, used: map[string]bool{}}
	if err := r.read(dataMember, reflect.ValueOf(&d).Elem()); err != nil {
		return d, err
	}
	for k := range form.Values {
		if strings.HasPrefix(k, dataMember+".") && !r.used[k] {
			return d, fault.New(fault.Unsupported, "ec2: launch template data", "The parameter %s is not supported here", k)
		}
	}
	return d, nil
}

type reader struct {
	form query.Form
	used map[string]bool
}

// read fills v from the parameter name, or from those below it.
func (r *reader) read(name string, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer:
		if !r.mentioned(name) {
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		return r.read(name, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i).Name
			member := name + "." + words.Replace(field)
			if v.Field(i).Kind() == reflect.Slice {
				member = name + "." + lists[field].query
			}
			if err := r.read(member, v.Field(i)); err != nil {
				return err
			}
		}
		return nil
	case reflect.Slice:
		for _, n := range r.form.Numbers(name) {
			e := reflect.New(v.Type().Elem()).Elem()
			if err := r.read(fmt.Sprintf("%s.%d", name, n), e); err != nil {
				return err
			}
			v.Set(reflect.Append(v, e))
		}
		return nil
	}
	return r.scalar(name, v)
}

func (r *reader) scalar(name string, v reflect.Value) error {
	if !r.form.Has(name) {
		return nil
	}
	r.used[name] = true
	text := r.form.Get(name)
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := r.form.Bool(name)
		v.SetBool(b)
		return err
	case reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return fault.New(fault.Invalid, "ec2", "value (%s) for parameter %s is invalid: expected a number", text, name)
		}
		v.SetInt(n)
	}
	return nil
}

// mentioned reports whether the request has the parameter or one below it.
func (r *reader) mentioned(name string) bool {
	if r.form.Has(name) {
		return true
	}
	for k := range r.form.Values {
		if strings.HasPrefix(k, name+".") {
			return true
		}
	}
	return false
}
