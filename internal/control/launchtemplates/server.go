package launchtemplates

import (
	"context"
	"maps"
	"slices"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/sizes"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// maker is what a service calls itself in the templates that it makes.
type maker struct {
	namePrefix, tagPrefix, principal, role string
}

var makers = map[state.Service]maker{
	state.MGN: {"created-and-used-by-application-migration-service-", "AWSApplicationMigrationService", "mgn.amazonaws.com",
		"AWSServiceRoleForApplicationMigrationService/ApplicationMigrationService"},
	state.DRS: {"created-and-used-by-elastic-disaster-recovery-", "AWSElasticDisasterRecovery", "drs.amazonaws.com",
		"AWSServiceRoleForElasticDisasterRecovery/ElasticDisasterRecovery"},
}

// nameTime is year, day and month: so the real services write it.
const nameTime = "060201-150405"

// Added gives a new source server its template, in the transaction that adds the server.
func (t *Templates) Added(ctx context.Context, tx state.Tx, v state.Server) error {
	_, err := t.ensure(ctx, tx, v)
	return fault.Wrap("launch templates: add", err)
}

// Ensure returns a server's template. One that was added before servers had templates gets it now.
func (t *Templates) Ensure(ctx context.Context, v state.Server) (out state.LaunchTemplate, err error) {
	err = t.store.View(ctx, func(r state.Reader) error {
		out, err = r.LaunchTemplateByServer(ctx, v.Scope, v.ID)
		return err
	})
	if fault.Is(err, fault.NotFound) {
		err = t.store.Update(ctx, func(tx state.Tx) error {
			out, err = t.ensure(ctx, tx, v)
			return err
		})
	}
	return out, fault.Wrap("launch templates: of server", err)
}

func (t *Templates) ensure(ctx context.Context, tx state.Tx, v state.Server) (state.LaunchTemplate, error) {
	have, err := tx.LaunchTemplateByServer(ctx, v.Scope, v.ID)
	if !fault.Is(err, fault.NotFound) {
		return have, err
	}
	m := makers[v.Scope.Service]
	out := state.LaunchTemplate{ID: control.NewID("lt-"), Account: v.Scope.Account, Service: v.Scope.Service, ServerID: v.ID,
		Name: m.namePrefix + v.ID + "-" + t.now().UTC().Format(nameTime),
		Tags: map[string]string{m.tagPrefix + "SourceServerID": v.ID, m.tagPrefix + "Managed": m.principal}}
	if v.Properties.Hints.Hostname != "" {
		out.Tags["Name"] = v.Properties.Hints.Hostname
	}
	_, err = t.put(ctx, tx, &out, Draft{Data: t.initial(v, out.Tags), By: "arn:aws:sts::" + v.Scope.Account + ":assumed-role/" + m.role})
	return out, err
}

const gib = 1 << 30

// initial is the first version: the recommended size, the server's disks, one network card.
func (t *Templates) initial(v state.Server, tags map[string]string) state.LaunchTemplateData {
	d := state.LaunchTemplateData{InstanceType: t.Recommended(v.Properties).Name,
		NetworkInterfaces: []state.TemplateNetworkInterface{{DeviceIndex: new(int64(0)), DeleteOnTermination: new(true)}}}
	for _, disk := range v.Replicated() {
		size := int64((disk.Bytes + gib - 1) / gib)
		d.BlockDeviceMappings = append(d.BlockDeviceMappings, state.BlockDeviceMapping{DeviceName: disk.DeviceName,
			EBS: &state.EBSBlockDevice{VolumeSize: &size, VolumeType: "gp3", DeleteOnTermination: new(true)}})
	}
	for _, kind := range []string{"instance", "volume"} {
		s := state.TemplateTags{ResourceType: kind}
		for _, key := range slices.Sorted(maps.Keys(tags)) {
			s.Tags = append(s.Tags, state.Tag{Key: key, Value: tags[key]})
		}
		d.TagSpecifications = append(d.TagSpecifications, s)
	}
	return d
}

// Recommended is the smallest size that has what the source server has.
func (t *Templates) Recommended(p state.SourceProperties) sizes.Size {
	var cores int64
	for _, c := range p.CPUs {
		cores += c.Cores
	}
	s, _ := t.sizes.Recommend(cores, int64(p.RAMBytes>>20), sizes.X86)
	return s
}

// Settings is what a launch takes from a template; members that the template does not say are empty.
type Settings struct {
	Template   string
	Version    int64
	Size       sizes.Size
	Interfaces []state.TemplateNetworkInterface
	// Tags are by what they are put on: instance, volume, network-interface.
	Tags    map[string]map[string]string
	Volumes map[string]state.EBSBlockDevice // by the source's device name
	Data    state.LaunchTemplateData
}

// Settings of a server's next launch: those of its template's default version. A size that the template
// does not name is the recommended one.
func (t *Templates) Settings(ctx context.Context, v state.Server) (Settings, error) {
	const op = "launch templates: settings"
	of, err := t.Ensure(ctx, v)
	if err != nil {
		return Settings{}, fault.Wrap(op, err)
	}
	_, version, err := t.Version(ctx, of.Account, Ref{ID: of.ID}, Default)
	if err != nil {
		return Settings{}, fault.Wrap(op, err)
	}
	d := version.Data
	s := Settings{Template: of.ID, Version: version.Number, Size: t.Recommended(v.Properties), Interfaces: d.NetworkInterfaces, Data: d,
		Tags: map[string]map[string]string{}, Volumes: map[string]state.EBSBlockDevice{}}
	if d.InstanceType != "" {
		size, ok := t.sizes.Resolve(d.InstanceType)
		if !ok { // the catalogue that knew it is no longer configured
			return s, fault.New(fault.Conflict, op, "launch template %s names the size %q, which is not in the catalogue", of.ID, d.InstanceType).
				WithHint("make another version the default, or add the size to the catalogue")
		}
		s.Size = size
	}
	s.take(d)
	return s, nil
}

// take reads what the version says by position or in lists.
func (s *Settings) take(d state.LaunchTemplateData) {
	if len(s.Interfaces) == 0 {
		s.Interfaces = []state.TemplateNetworkInterface{{Groups: d.SecurityGroupIDs}}
	}
	for _, spec := range d.TagSpecifications {
		tags := map[string]string{}
		for _, tag := range spec.Tags {
			tags[tag.Key] = tag.Value
		}
		if s.Tags[spec.ResourceType] == nil {
			s.Tags[spec.ResourceType] = map[string]string{}
		}
		maps.Copy(s.Tags[spec.ResourceType], tags)
	}
	for _, m := range d.BlockDeviceMappings {
		if m.EBS != nil {
			s.Volumes[m.DeviceName] = *m.EBS
		}
	}
}
