package records

import "context"

// Trace tells fn of every statement from now on.
func (s *Store) Trace(fn func(query string, args []any)) { s.trace = fn }

// Rows runs a statement outside of the store's interface.
func (s *Store) Rows(ctx context.Context, query string, args ...any) ([]string, error) {
	rows, err := s.write.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var out []string
	for rows.Next() {
		into := make([]any, len(columns))
		for i := range into {
			into[i] = new(any)
		}
		var last string
		into[len(columns)-1] = &last
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		out = append(out, last)
	}
	return out, rows.Err()
}
