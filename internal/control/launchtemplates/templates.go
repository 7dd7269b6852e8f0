// Package launchtemplates keeps EC2 launch templates: one for every source server, made when the server is
// added, and whatever else users make. The default version of a server's template says how its next launch
// is sized, networked and tagged. internal/awsapi/ec2api edits them, whoever launches reads them, and
// internal/app lets this package take part in the adding of servers.
package launchtemplates

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/sizes"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// Resource types as they appear in errors.
const (
	TemplateID   = "LaunchTemplateId"
	TemplateName = "LaunchTemplateName"
	Version      = "LaunchTemplateVersion"
)

// Templates keeps launch templates.
type Templates struct {
	store state.Store
	sizes *sizes.Catalogue
	now   func() time.Time
}

// New returns the templates in store.
func New(store state.Store, c *sizes.Catalogue) *Templates {
	return &Templates{store: store, sizes: c, now: time.Now}
}

// Ref names a template by exactly one of both.
type Ref struct{ ID, Name string }

// Draft is what a new template or version says.
type Draft struct {
	Description string
	Data        state.LaunchTemplateData
	By          string // ARN of who makes it
	Token       string // the client's own: a call with one that was used before makes nothing new; "" always does
}

var namePattern = regexp.MustCompile(`^[a-zA-Z0-9().\-/_]{3,128}$`)

const maxDescription = 255

// ErrExists is in the chain of the refusal of a name that is taken.
var ErrExists = errors.New("already in use")

// Create makes a template of a user's own, with its first version.
func (t *Templates) Create(ctx context.Context, account, name string, tags map[string]string, d Draft) (state.LaunchTemplate, state.LaunchTemplateVersion, error) {
	const op = "launch templates: create"
	var v state.LaunchTemplateVersion
	if !namePattern.MatchString(name) {
		return state.LaunchTemplate{}, v, fault.New(fault.Invalid, op, "%w", fields(TemplateName, "must have 3 to 128 letters, digits and characters of ().-/_"))
	}
	tags, err := control.AddTags(nil, tags)
	if err != nil {
		return state.LaunchTemplate{}, v, fault.Wrap(op, err)
	}
	out := state.LaunchTemplate{ID: control.NewID("lt-"), Account: account, Name: name, Tags: tags}
	err = t.store.Update(ctx, func(tx state.Tx) error {
		have, _, err := tx.LaunchTemplates(ctx, account, state.LaunchTemplateFilter{Names: []string{name}}, state.Page{Limit: 1})
		if err != nil {
			return err
		}
		if len(have) > 0 {
			if v, err = tx.LaunchTemplateVersion(ctx, have[0].ID, 1); err == nil && d.Token != "" && v.Token == d.Token {
				out = have[0]
				return nil
			}
			return fault.New(fault.Conflict, op, "%w", &control.ResourceError{Type: TemplateName, ID: name, Err: ErrExists})
		}
		v, err = t.put(ctx, tx, &out, d)
		return err
	})
	return out, v, fault.Wrap(op, err)
}

// put makes a template and its first version.
func (t *Templates) put(ctx context.Context, tx state.Tx, out *state.LaunchTemplate, d Draft) (state.LaunchTemplateVersion, error) {
	out.CreatedAt, out.CreatedBy, out.Default, out.Latest = t.now().UTC(), d.By, 1, 1
	v, err := t.version(*out, d)
	if err != nil {
		return v, err
	}
	if err := tx.PutLaunchTemplate(ctx, *out); err != nil {
		return v, err
	}
	return v, tx.PutLaunchTemplateVersion(ctx, v)
}

// version is a template's latest version, as d says.
func (t *Templates) version(of state.LaunchTemplate, d Draft) (state.LaunchTemplateVersion, error) {
	if utf8.RuneCountInString(d.Description) > maxDescription {
		return state.LaunchTemplateVersion{}, fault.New(fault.Invalid, "launch templates", "%w", fields("VersionDescription", "must have at most 255 characters"))
	}
	if err := t.check(d.Data); err != nil {
		return state.LaunchTemplateVersion{}, err
	}
	return state.LaunchTemplateVersion{TemplateID: of.ID, Number: of.Latest, Description: d.Description, Data: d.Data,
		CreatedBy: d.By, Token: d.Token, CreatedAt: t.now().UTC()}, nil
}

// CreateVersion adds a version. Members that d does not set are taken from the source version, if one is
// named: a number, $Latest or $Default. Launches go on using the default version.
func (t *Templates) CreateVersion(ctx context.Context, account string, ref Ref, source string, d Draft) (of state.LaunchTemplate, v state.LaunchTemplateVersion, err error) {
	err = t.store.Update(ctx, func(tx state.Tx) error {
		if of, err = find(ctx, tx, account, ref); err != nil {
			return err
		}
		if done, ok, err := madeBefore(ctx, tx, of, d.Token); err != nil || ok {
			v = done
			return err
		}
		if source != "" {
			from, err := findVersion(ctx, tx, of, source)
			if err != nil {
				return err
			}
			d.Data = Merge(from.Data, d.Data)
		}
		of.Latest++
		if v, err = t.version(of, d); err != nil {
			return err
		}
		if err := tx.PutLaunchTemplate(ctx, of); err != nil {
			return err
		}
		return tx.PutLaunchTemplateVersion(ctx, v)
	})
	return of, v, fault.Wrap("launch templates: create version", err)
}

// madeBefore is the version that an earlier call with the same token made. Clients repeat a call whose
// answer they missed at once, so that it is among the newest.
func madeBefore(ctx context.Context, r state.Reader, of state.LaunchTemplate, token string) (state.LaunchTemplateVersion, bool, error) {
	if token == "" {
		return state.LaunchTemplateVersion{}, false, nil
	}
	newest, _, err := r.LaunchTemplateVersions(ctx, of.ID, state.Page{Limit: 20})
	if err != nil {
		return state.LaunchTemplateVersion{}, false, err
	}
	i := slices.IndexFunc(newest, func(v state.LaunchTemplateVersion) bool { return v.Token == token })
	if i < 0 {
		return state.LaunchTemplateVersion{}, false, nil
	}
	return newest[i], true, nil
}

// SetDefault makes a version the one that launches use.
func (t *Templates) SetDefault(ctx context.Context, account string, ref Ref, version string) (of state.LaunchTemplate, err error) {
	err = t.store.Update(ctx, func(tx state.Tx) error {
		if of, err = find(ctx, tx, account, ref); err != nil {
			return err
		}
		v, err := findVersion(ctx, tx, of, version)
		if err != nil {
			return err
		}
		of.Default = v.Number
		return tx.PutLaunchTemplate(ctx, of)
	})
	return of, fault.Wrap("launch templates: set default version", err)
}

// Delete removes a user's own template. A source server's stays as long as the server.
func (t *Templates) Delete(ctx context.Context, account string, ref Ref) (of state.LaunchTemplate, err error) {
	err = t.store.Update(ctx, func(tx state.Tx) error {
		if of, err = find(ctx, tx, account, ref); err != nil {
			return err
		}
		if of.ServerID != "" {
			return control.Refuse("launch templates", TemplateID, of.ID, "belongs to source server %s", of.ServerID).
				WithHint("it goes with the source server")
		}
		return tx.DeleteLaunchTemplate(ctx, account, of.ID)
	})
	return of, fault.Wrap("launch templates: delete", err)
}

// Tag changes a template's tags: add first, then remove.
func (t *Templates) Tag(ctx context.Context, account string, ref Ref, add map[string]string, remove []string) error {
	return fault.Wrap("launch templates: tag", t.store.Update(ctx, func(tx state.Tx) error {
		of, err := find(ctx, tx, account, ref)
		if err != nil {
			return err
		}
		if of.Tags, err = control.AddTags(of.Tags, add); err != nil {
			return err
		}
		of.Tags = control.RemoveTags(of.Tags, remove)
		return tx.PutLaunchTemplate(ctx, of)
	}))
}
