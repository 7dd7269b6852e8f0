package records

import (
	"context"
	"strconv"
	"strings"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

const mgnLaunchTemplates = "mgn_launch_template"

func (t *tx) MGNLaunchTemplate(ctx context.Context, s state.Scope, id string) (state.MGNLaunchTemplate, error) {
	return getScoped[state.MGNLaunchTemplate](ctx, t, mgnLaunchTemplates, s, id)
}

func (t *tx) MGNLaunchTemplates(ctx context.Context, s state.Scope, ids []string, p state.Page) ([]state.MGNLaunchTemplate, string, error) {
	w := ofScope(s)
	in(w, "id", ids)
	return listScoped(ctx, t, mgnLaunchTemplates, w, p, func(v state.MGNLaunchTemplate) place { return place{nanos(v.CreatedAt), v.ID} })
}

func (t *tx) PutMGNLaunchTemplate(ctx context.Context, v state.MGNLaunchTemplate) error {
	return t.putScoped(ctx, mgnLaunchTemplates, v.Scope, v.ID, nanos(v.CreatedAt), v)
}

func (t *tx) DeleteMGNLaunchTemplate(ctx context.Context, s state.Scope, id string) error {
	return t.deleteScoped(ctx, mgnLaunchTemplates, s, id)
}

func (t *tx) MGNLaunchConfig(ctx context.Context, serverID string) (state.MGNLaunchConfig, error) {
	return one[state.MGNLaunchConfig](ctx, t, "state: launch configuration", `SELECT body FROM mgn_launch_config WHERE server_id = ?`, serverID)
}

func (t *tx) PutMGNLaunchConfig(ctx context.Context, serverID string, c state.MGNLaunchConfig) error {
	body, err := encode(c)
	if err != nil {
		return err
	}
	return t.exec(ctx, "state: put launch configuration",
		`INSERT INTO mgn_launch_config (server_id, body) VALUES (?, ?)
		 ON CONFLICT (server_id) DO UPDATE SET body = excluded.body`, serverID, body)
}

func (t *tx) PostLaunchAction(ctx context.Context, owner, id string) (state.PostLaunchAction, error) {
	return one[state.PostLaunchAction](ctx, t, "state: action", `SELECT body FROM post_launch_action WHERE owner = ? AND id = ?`, owner, id)
}

func (t *tx) PostLaunchActions(ctx context.Context, owner string, ids []string, p state.Page) ([]state.PostLaunchAction, string, error) {
	var w where
	w.and("owner = ?", owner)
	in(&w, "id", ids)
	if p.After != "" {
		last, err := strconv.ParseInt(p.After, 10, 32)
		if err != nil {
			return nil, "", fault.New(fault.Invalid, "state: actions", "page token %q is not one of ours", p.After)
		}
		w.and("place > ?", last)
	}
	items, err := many[state.PostLaunchAction](ctx, t, "state: actions",
		`SELECT body FROM post_launch_action WHERE `+w.String()+` ORDER BY place LIMIT ?`, append(w.args, p.Size()+1)...)
	if err != nil {
		return nil, "", err
	}
	items, next := trim(items, p.Size(), func(v state.PostLaunchAction) string { return strconv.FormatInt(int64(v.Order), 10) })
	return items, next, nil
}

func (t *tx) PutPostLaunchAction(ctx context.Context, v state.PostLaunchAction) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	var server, template any // NULL
	if strings.HasPrefix(v.Owner, "s-") {
		server = v.Owner
	} else {
		template = v.Owner
	}
	return t.exec(ctx, "state: put action",
		`INSERT INTO post_launch_action (owner, id, place, server_id, template_id, body) VALUES (?, ?, ?, ?, ?, ?)
		 ON CONFLICT (owner, id) DO UPDATE SET place = excluded.place, body = excluded.body`, v.Owner, v.ID, int64(v.Order), server, template, body)
}

func (t *tx) DeletePostLaunchAction(ctx context.Context, owner, id string) error {
	return t.exec(ctx, "state: delete action", `DELETE FROM post_launch_action WHERE owner = ? AND id = ?`, owner, id)
}
