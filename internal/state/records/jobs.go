package records

import (
	"context"
	"strconv"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

func (t *tx) Job(ctx context.Context, s state.Scope, id string) (state.Job, error) {
	return one[state.Job](ctx, t, "state: job", `SELECT body FROM job WHERE id = ? AND account = ? AND service = ?`, id, s.Account, s.Service)
}

func jobPlace(v state.Job) string { return place{nanos(v.CreatedAt), v.ID}.String() }

func (t *tx) Jobs(ctx context.Context, s state.Scope, f state.JobFilter, p state.Page) ([]state.Job, string, error) {
	var w where
	w.and("account = ? AND service = ?", s.Account, s.Service)
	in(&w, "id", f.IDs)
	if !f.From.IsZero() {
		w.and("created_at >= ?", nanos(f.From))
	}
	if !f.To.IsZero() {
		w.and("created_at <= ?", nanos(f.To))
	}
	if err := before(&w, p); err != nil {
		return nil, "", err
	}
	items, err := many[state.Job](ctx, t, "state: jobs",
		`SELECT body FROM job WHERE `+w.String()+` ORDER BY created_at DESC, id DESC LIMIT ?`, append(w.args, p.Size()+1)...)
	if err != nil {
		return nil, "", err
	}
	items, next := trim(items, p.Size(), jobPlace)
	return items, next, nil
}

// before continues a list ordered by (created_at, id), newest first.
func before(w *where, p state.Page) error {
	if p.After == "" {
		return nil
	}
	at, err := parsePlace(p.After)
	if err != nil {
		return err
	}
	w.and("(created_at, id) < (?, ?)", at.nanos, at.id)
	return nil
}

func (t *tx) UnfinishedJobs(ctx context.Context, p state.Page) ([]state.Job, string, error) {
	var w where
	w.and("finished = 0")
	if err := after(&w, p); err != nil {
		return nil, "", err
	}
	items, err := many[state.Job](ctx, t, "state: unfinished jobs",
		`SELECT body FROM job WHERE `+w.String()+` ORDER BY created_at, id LIMIT ?`, append(w.args, p.Size()+1)...)
	if err != nil {
		return nil, "", err
	}
	items, next := trim(items, p.Size(), jobPlace)
	return items, next, nil
}

func (t *tx) JobLog(ctx context.Context, jobID string, p state.Page) ([]state.JobEvent, string, error) {
	from := int64(0)
	if p.After != "" {
		var err error
		if from, err = strconv.ParseInt(p.After, 10, 64); err != nil {
			return nil, "", fault.New(fault.Invalid, "state: job log", "page token %q is not one of ours", p.After)
		}
	}
	items, err := many[state.JobEvent](ctx, t, "state: job log",
		`SELECT body FROM job_event WHERE job_id = ? AND seq > ? ORDER BY seq LIMIT ?`, jobID, from, p.Size()+1)
	if err != nil {
		return nil, "", err
	}
	items, next := trim(items, p.Size(), func(e state.JobEvent) string { return strconv.FormatInt(e.Seq, 10) })
	return items, next, nil
}

func (t *tx) BusyIn(ctx context.Context, subjects []string) (map[string]string, error) {
	const op = "state: busy subjects"
	out := map[string]string{}
	if len(subjects) == 0 {
		return out, nil
	}
	var w where
	in(&w, "subject", subjects)
	rows, err := t.query(ctx, `SELECT subject, job_id FROM job_subject WHERE `+w.String(), w.args...)
	if err != nil {
		return nil, t.classify(op, err)
	}
	defer rows.Close()
	for rows.Next() {
		var subject, job string
		if err := rows.Scan(&subject, &job); err != nil {
			return nil, t.classify(op, err)
		}
		out[subject] = job
	}
	return out, t.classify(op, rows.Err())
}

func (t *tx) JobLoad(ctx context.Context, s state.Scope) (jobs, subjects int, err error) {
	err = t.queryRow(ctx, `SELECT COUNT(DISTINCT job_id), COUNT(*) FROM job_subject WHERE account = ? AND service = ?`,
		s.Account, s.Service).Scan(&jobs, &subjects)
	return jobs, subjects, t.classify("state: job load", err)
}

func (t *tx) PutJob(ctx context.Context, j state.Job) error {
	const op = "state: put job"
	body, err := encode(j)
	if err != nil {
		return err
	}
	finished := j.Status == state.JobCompleted
	err = t.exec(ctx, op,
		`INSERT INTO job (id, account, service, created_at, finished, body) VALUES (?, ?, ?, ?, ?, ?)
		 ON CONFLICT (id) DO UPDATE SET finished = excluded.finished, body = excluded.body`,
		j.ID, j.Scope.Account, j.Scope.Service, nanos(j.CreatedAt), flag(finished), body)
	if err != nil {
		return err
	}
	if err := t.exec(ctx, op, `DELETE FROM job_subject WHERE job_id = ?`, j.ID); err != nil || finished {
		return err
	}
	for i := range j.Participants {
		err := t.exec(ctx, op, `INSERT INTO job_subject (subject, job_id, account, service) VALUES (?, ?, ?, ?)`,
			j.Participants[i].Subject(), j.ID, j.Scope.Account, j.Scope.Service)
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) DeleteJob(ctx context.Context, s state.Scope, id string) error {
	return t.exec(ctx, "state: delete job", `DELETE FROM job WHERE id = ? AND account = ? AND service = ?`, id, s.Account, s.Service)
}

func (t *tx) AddJobEvent(ctx context.Context, e state.JobEvent) error {
	const op = "state: add job event"
	err := t.queryRow(ctx, `SELECT COALESCE(MAX(seq), 0) + 1 FROM job_event WHERE job_id = ?`, e.JobID).Scan(&e.Seq)
	if err != nil {
		return t.classify(op, err)
	}
	body, err := encode(e)
	if err != nil {
		return err
	}
	return t.exec(ctx, op, `INSERT INTO job_event (job_id, seq, body) VALUES (?, ?, ?)`, e.JobID, e.Seq, body)
}
