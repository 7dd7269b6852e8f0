package awsapi

import (
	"context"
	"reflect"
	"strings"

	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/internal/sigv4"
)

// resourceOf is the kind of resource that an input member names. A member that ends in s is a list.
var resourceOf = map[string]string{
	"sourceServerID":                     "source-server",
	"sourceServerIDs":                    "source-server",
	"recoveryInstanceID":                 "recovery-instance",
	"recoveryInstanceIDs":                "recovery-instance",
	"jobID":                              "job",
	"replicationConfigurationTemplateID": "replication-configuration-template",
	"launchConfigurationTemplateID":      "launch-configuration-template",
	"sourceNetworkID":                    "source-network",
	"applicationID":                      "application",
	"applicationIDs":                     "application",
	"waveID":                             "wave",
	"connectorID":                        "connector",
	"vcenterClientID":                    "vcenter-client",
	"importID":                           "import",
	"exportID":                           "export",
	"networkMigrationDefinitionID":       "network-migration-definition",
}

// nested are input members whose elements name resources.
var nested = map[string]bool{"sourceServers": true, "sourceNetworks": true}

// named is what an operation's input says that policies ask about.
type named struct {
	resources []string
	tags      map[string]string
}

// namedBy reads the decoded input: what is asked about must be what will be done.
func (s *service) namedBy(ctx context.Context, op *rest.Operation, in any) named {
	caller, _ := sigv4.CallerFrom(ctx)
	n := naming{prefix: "arn:aws:" + s.Name + ":" + s.cfg.Region + ":" + caller.AccountID + ":", lists: !strings.HasPrefix(op.Name, "Describe") && !strings.HasPrefix(op.Name, "List")}
	v := reflect.ValueOf(in).Elem()
	for i := range op.Input.Members {
		if op.Input.Members[i].Name == "accountID" && text(v.Field(i)) != "" { // acting for a managed account
			n.prefix = "arn:aws:" + s.Name + ":" + s.cfg.Region + ":" + text(v.Field(i)) + ":"
		}
	}
	n.structure(op.Input, v)
	return n.named
}

type naming struct {
	named
	prefix string
	lists  bool // lists of ids name resources; where they only filter, they do not
}

func (n *naming) structure(shape *rest.Shape, v reflect.Value) {
	for i := range shape.Members {
		m, f := &shape.Members[i], v.Field(i)
		kind, names := resourceOf[m.Name]
		switch {
		case names && m.Shape.Kind == rest.List:
			for j := range lengthIf(n.lists, f) {
				n.add(kind, text(f.Index(j)))
			}
		case names:
			n.add(kind, text(f))
		case m.Name == "resourceArn" || m.Name == "sourceServerArn":
			n.resources = append(n.resources, text(f))
		case m.Name == "resourceId":
			n.add(kindOfID(text(f)), text(f))
		case nested[m.Name] && m.Shape.Kind == rest.List:
			for j := range f.Len() {
				n.structure(m.Shape.Elem, f.Index(j))
			}
		case m.Name == "tags":
			n.tags, _ = f.Interface().(map[string]string)
		case m.Name == "tagKeys":
			n.tags = map[string]string{}
			for j := range f.Len() {
				n.tags[text(f.Index(j))] = ""
			}
		}
	}
}

func (n *naming) add(kind, id string) {
	if id != "" {
		n.resources = append(n.resources, n.prefix+kind+"/"+id)
	}
}

func lengthIf(wanted bool, f reflect.Value) int {
	if !wanted {
		return 0
	}
	return f.Len()
}

// kindOfID is the kind of resource that an id's prefix tells, of those that take launch actions.
func kindOfID(id string) string {
	if strings.HasPrefix(id, "lct-") {
		return "launch-configuration-template"
	}
	return "source-server"
}

// text is a string member, given or not.
func text(v reflect.Value) string {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	if v.Kind() != reflect.String {
		return ""
	}
	return v.String()
}

// ResourceTags asks the service itself, by its own operation.
func (s *service) ResourceTags(ctx context.Context, arn string) (map[string]string, error) {
	for i := range s.Endpoints {
		ep := &s.Endpoints[i]
		if ep.Name != "ListTagsForResource" {
			continue
		}
		in := ep.New()
		set(ep.Input, in, "resourceArn", arn)
		out, err := ep.Call(ctx, in)
		if err != nil {
			return nil, err
		}
		return tagsOf(ep.Output, out), nil
	}
	return nil, nil
}

func set(shape *rest.Shape, in any, member, value string) {
	v := reflect.ValueOf(in).Elem()
	for i := range shape.Members {
		if shape.Members[i].Name != member {
			continue
		}
		if f := v.Field(i); f.Kind() == reflect.Pointer {
			f.Set(reflect.ValueOf(&value))
		} else {
			f.SetString(value)
		}
	}
}

func tagsOf(shape *rest.Shape, out any) map[string]string {
	v := reflect.ValueOf(out).Elem()
	for i := range shape.Members {
		if shape.Members[i].Name == "tags" {
			tags, _ := v.Field(i).Interface().(map[string]string)
			return tags
		}
	}
	return nil
}
