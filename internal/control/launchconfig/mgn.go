package launchconfig

import (
	"context"
	"slices"
	"time"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/resource"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// MGNTemplates keeps MGN's launch configuration templates. Servers that are added start with the oldest.
type MGNTemplates struct {
	resource.Keeper[state.MGNLaunchTemplate]
}

// NewMGNTemplates returns the templates in store.
func NewMGNTemplates(store state.Store) *MGNTemplates {
	return &MGNTemplates{resource.Keeper[state.MGNLaunchTemplate]{Store: store, Kind: templateType,
		Read: state.Reader.MGNLaunchTemplate, Write: state.Tx.PutMGNLaunchTemplate,
		Tagged: func(v *state.MGNLaunchTemplate) *map[string]string { return &v.Tags }}}
}

// MGNPatch is a partial launch configuration; nil members keep their value, in Create they take the default.
type MGNPatch struct {
	Disposition   *string
	RightSizing   *string
	CopyPrivateIP *bool
	CopyTags      *bool
	OSByol        *bool
	BootMode      *string
	PostLaunch    *state.PostLaunch // as a whole
	MapTagging    *bool
	MapMpeID      *string
	Name          *string // of a server's configuration only

	// Of a template only.
	PublicIP          *bool
	SmallVolumeMax    *int64
	SmallVolume       *state.VolumeConfig
	LargeVolume       *state.VolumeConfig
	EncryptParameters *bool
	ParametersKeyARN  *string
}

// Values of the members, as the API spells them.
const (
	testAndCutover = "TEST_AND_CUTOVER"
	gp3            = "gp3"
)

// mgnDefaults is what a server is launched with where nobody has said anything.
func mgnDefaults() state.MGNLaunchConfig {
	return state.MGNLaunchConfig{Disposition: "STARTED", RightSizing: "BASIC", OSByol: true, BootMode: "USE_SOURCE",
		PostLaunch: state.PostLaunch{Deployment: testAndCutover}}
}

// DefaultMGNTemplate is the template that an account begins with.
func DefaultMGNTemplate(s state.Scope, now time.Time) state.MGNLaunchTemplate {
	return state.MGNLaunchTemplate{
		ID: control.NewID("lct-"), Scope: s, Config: mgnDefaults(), CreatedAt: now, Tags: map[string]string{},
		SmallVolume: state.VolumeConfig{Type: gp3, IOPS: 3000, Throughput: 125},
		LargeVolume: state.VolumeConfig{Type: gp3, IOPS: 16_000, Throughput: 1000},
	}
}

func (p MGNPatch) apply(c *state.MGNLaunchConfig) error {
	set(&c.Disposition, p.Disposition)
	set(&c.RightSizing, p.RightSizing)
	set(&c.CopyPrivateIP, p.CopyPrivateIP)
	set(&c.CopyTags, p.CopyTags)
	set(&c.OSByol, p.OSByol)
	set(&c.BootMode, p.BootMode)
	set(&c.PostLaunch, p.PostLaunch)
	set(&c.MapTagging, p.MapTagging)
	set(&c.MapMpeID, p.MapMpeID)
	set(&c.Name, p.Name)
	if c.PostLaunch.Deployment == "" {
		c.PostLaunch.Deployment = testAndCutover
	}
	return checkMGN(c)
}

func (p MGNPatch) applyTemplate(t *state.MGNLaunchTemplate) error {
	set(&t.PublicIP, p.PublicIP)
	set(&t.SmallVolumeMax, p.SmallVolumeMax)
	set(&t.SmallVolume, p.SmallVolume)
	set(&t.LargeVolume, p.LargeVolume)
	set(&t.EncryptParameters, p.EncryptParameters)
	set(&t.ParametersKeyARN, p.ParametersKeyARN)
	if err := checkVolume("smallVolumeConf", t.SmallVolume); err != nil {
		return err
	}
	if err := checkVolume("largeVolumeConf", t.LargeVolume); err != nil {
		return err
	}
	return p.apply(&t.Config)
}

const opMGN = "launch configuration"

// checkMGN checks what the API's shapes cannot: how members depend on each other.
func checkMGN(c *state.MGNLaunchConfig) error {
	if c.MapTagging && c.MapMpeID == "" {
		return control.Misfit(opMGN, "mapAutoTaggingMpeID", "is required with enableMapAutoTagging")
	}
	for _, d := range c.PostLaunch.Documents {
		if d.ActionName == "" {
			return control.Misfit(opMGN, "postLaunchActions.ssmDocuments.actionName", "must not be empty")
		}
		if err := checkParameters("postLaunchActions.ssmDocuments", d.Parameters, d.External); err != nil {
			return err
		}
	}
	return nil
}

// checkParameters refuses a parameter that has two sources.
func checkParameters(member string, stored map[string][]state.StoreParameter, external map[string]string) error {
	for name := range external {
		if _, both := stored[name]; both {
			return control.Misfit(opMGN, member+".externalParameters", "%s is among parameters too", name)
		}
	}
	return nil
}

// withIOPS are the volume types whose speed can be set; those of provisioned must be.
var (
	withIOPS    = []string{gp3, "io1", "io2"}
	provisioned = []string{"io1", "io2"}
)

func checkVolume(member string, v state.VolumeConfig) error {
	switch {
	case v.Type == "" && (v.IOPS != 0 || v.Throughput != 0):
		return control.Misfit(opMGN, member+".volumeType", "is required with iops and throughput")
	case v.IOPS != 0 && !slices.Contains(withIOPS, v.Type):
		return control.Misfit(opMGN, member+".iops", "cannot be set for volumes of type %s", v.Type)
	case v.IOPS == 0 && slices.Contains(provisioned, v.Type):
		return control.Misfit(opMGN, member+".iops", "is required for volumes of type %s", v.Type)
	case v.Throughput != 0 && v.Type != gp3:
		return control.Misfit(opMGN, member+".throughput", "cannot be set for volumes of type %s", v.Type)
	}
	return nil
}

// Create adds a template.
func (m *MGNTemplates) Create(ctx context.Context, s state.Scope, p MGNPatch, tags map[string]string) (state.MGNLaunchTemplate, error) {
	const op = "launch configuration templates: create"
	v := DefaultMGNTemplate(s, time.Now().UTC())
	err := p.applyTemplate(&v)
	if err == nil {
		v.Tags, err = control.AddTags(nil, tags)
	}
	if err != nil {
		return v, fault.Wrap(op, err)
	}
	return v, fault.Wrap(op, m.Store.Update(ctx, func(tx state.Tx) error { return tx.PutMGNLaunchTemplate(ctx, v) }))
}

// Update changes the members that p names. Servers that exist keep their configuration.
func (m *MGNTemplates) Update(ctx context.Context, s state.Scope, id string, p MGNPatch) (state.MGNLaunchTemplate, error) {
	return m.Change(ctx, s, id, func(_ state.Tx, v *state.MGNLaunchTemplate) error { return p.applyTemplate(v) })
}

// Delete removes a template and its actions. Servers have copies, so it is never in use.
func (m *MGNTemplates) Delete(ctx context.Context, s state.Scope, id string) error {
	return m.Remove(ctx, s, id, nil, state.Tx.DeleteMGNLaunchTemplate)
}

// List returns the scope's templates, or those of ids that exist, oldest first.
func (m *MGNTemplates) List(ctx context.Context, s state.Scope, ids []string, p state.Page) (items []state.MGNLaunchTemplate, next string, err error) {
	err = m.Store.View(ctx, func(r state.Reader) error {
		items, next, err = r.MGNLaunchTemplates(ctx, s, ids, p)
		return err
	})
	return items, next, fault.Wrap("launch configuration templates: list", err)
}
