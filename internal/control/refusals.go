package control

import "github.com/understudy-dr/understudy/internal/fault"

// Refusals collect what stands against one call that names several resources of one kind.
type Refusals struct {
	Kind string // as "SourceServer"
	each []*ResourceError
}

// Add notes why one of them is refused.
func (r *Refusals) Add(id string, why error) {
	r.each = append(r.each, &ResourceError{Type: r.Kind, ID: id, Err: why})
}

// Err is the conflict: nil when there is nothing, what stands against the one resource when it is one, else message
// with each resource's own part.
func (r *Refusals) Err(op, message string) error {
	switch len(r.each) {
	case 0:
		return nil
	case 1:
		return fault.New(fault.Conflict, op, "%w", r.each[0])
	}
	return fault.New(fault.Conflict, op, "%w", &ResourceErrors{Message: message, Each: r.each})
}
