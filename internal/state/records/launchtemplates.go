package records

import (
	"context"
	"strconv"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

func (t *tx) LaunchTemplate(ctx context.Context, account, id string) (state.LaunchTemplate, error) {
	return one[state.LaunchTemplate](ctx, t, "state: launch template",
		`SELECT body FROM launch_template WHERE id = ? AND account = ?`, id, account)
}

func (t *tx) LaunchTemplateByServer(ctx context.Context, s state.Scope, serverID string) (state.LaunchTemplate, error) {
	return one[state.LaunchTemplate](ctx, t, "state: launch template of server",
		`SELECT body FROM launch_template WHERE server_id = ? AND account = ? AND service = ?`, serverID, s.Account, s.Service)
}

func (t *tx) LaunchTemplates(ctx context.Context, account string, f state.LaunchTemplateFilter, p state.Page) ([]state.LaunchTemplate, string, error) {
	var w where
	w.and("account = ?", account)
	in(&w, "id", f.IDs)
	in(&w, "name", f.Names)
	if err := after(&w, p); err != nil {
		return nil, "", err
	}
	items, err := many[state.LaunchTemplate](ctx, t, "state: launch templates",
		`SELECT body FROM launch_template WHERE `+w.String()+` ORDER BY created_at, id LIMIT ?`, append(w.args, p.Size()+1)...)
	if err != nil {
		return nil, "", err
	}
	items, next := trim(items, p.Size(), func(v state.LaunchTemplate) string { return place{nanos(v.CreatedAt), v.ID}.String() })
	return items, next, nil
}

func (t *tx) PutLaunchTemplate(ctx context.Context, v state.LaunchTemplate) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	var server any // NULL, of which there may be many
	if v.ServerID != "" {
		server = v.ServerID
	}
	return t.exec(ctx, "state: put launch template",
		`INSERT INTO launch_template (id, account, name, service, server_id, created_at, body) VALUES (?, ?, ?, ?, ?, ?, ?)
		 ON CONFLICT (id) DO UPDATE SET name = excluded.name, body = excluded.body`,
		v.ID, v.Account, v.Name, v.Service, server, nanos(v.CreatedAt), body)
}

func (t *tx) DeleteLaunchTemplate(ctx context.Context, account, id string) error {
	return t.exec(ctx, "state: delete launch template", `DELETE FROM launch_template WHERE id = ? AND account = ?`, id, account)
}

func (t *tx) LaunchTemplateVersion(ctx context.Context, templateID string, number int64) (state.LaunchTemplateVersion, error) {
	return one[state.LaunchTemplateVersion](ctx, t, "state: launch template version",
		`SELECT body FROM launch_template_version WHERE template_id = ? AND number = ?`, templateID, number)
}

func (t *tx) LaunchTemplateVersions(ctx context.Context, templateID string, p state.Page) ([]state.LaunchTemplateVersion, string, error) {
	const op = "state: launch template versions"
	var w where
	w.and("template_id = ?", templateID)
	if p.After != "" {
		below, err := strconv.ParseInt(p.After, 10, 64)
		if err != nil {
			return nil, "", fault.New(fault.Invalid, op, "page token %q is not one of ours", p.After)
		}
		w.and("number < ?", below)
	}
	items, err := many[state.LaunchTemplateVersion](ctx, t, op,
		`SELECT body FROM launch_template_version WHERE `+w.String()+` ORDER BY number DESC LIMIT ?`, append(w.args, p.Size()+1)...)
	if err != nil {
		return nil, "", err
	}
	items, next := trim(items, p.Size(), func(v state.LaunchTemplateVersion) string { return strconv.FormatInt(v.Number, 10) })
	return items, next, nil
}

func (t *tx) PutLaunchTemplateVersion(ctx context.Context, v state.LaunchTemplateVersion) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	return t.exec(ctx, "state: put launch template version",
		`INSERT INTO launch_template_version (template_id, number, body) VALUES (?, ?, ?)
		 ON CONFLICT (template_id, number) DO UPDATE SET body = excluded.body`, v.TemplateID, v.Number, body)
}
