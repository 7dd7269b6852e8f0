// Package policy reads policy documents in IAM's form and decides requests by them: what is not allowed
// is denied, and an explicit Deny wins. It knows no store and no service. internal/control/access keeps
// the documents; the edges ask through it.
package policy

// Document is a parsed policy.
type Document struct {
	statements []statement
}

// statement is one rule. Exactly one of actions and notActions has patterns, and so for resources.
type statement struct {
	deny                    bool
	actions, notActions     []pattern
	resources, notResources []pattern
	conditions              []condition
}

// Request is what somebody wants to do to one resource.
type Request struct {
	Action   string // as "drs:StartRecovery"
	Resource string // an ARN, or Any
	// Values are the values of a condition key, which is as in the table Keys, a tag's name behind it. No
	// values mean that the request does not have the key. It is asked only for keys that a policy names.
	Values func(key string) ([]string, error)
}

// Any is the resource of actions that name none.
const Any = "*"

// Decision is the outcome for one request.
type Decision uint8

// The decisions.
const (
	ImplicitDeny Decision = iota // nothing allows it
	ExplicitDeny                 // a Deny names it
	Allow
)

var decisionNames = [...]string{"implicitDeny", "explicitDeny", "allowed"}

// String is the decision as IAM's simulator calls it.
func (d Decision) String() string {
	if int(d) < len(decisionNames) {
		return decisionNames[d]
	}
	return decisionNames[ImplicitDeny]
}

// Set is everything that decides for one principal: what the policies attached to it allow, and, of
// temporary credentials that were asked for with less, not more than Session.
type Set struct {
	Identity []*Document
	Session  *Document // nil does not narrow
}

// Decide answers one request. An error means that a value could not be had; then nothing is allowed.
func (s Set) Decide(r Request) (Decision, error) {
	documents := s.Identity
	if s.Session != nil {
		documents = append(documents[:len(documents):len(documents)], s.Session)
	}
	for _, d := range documents {
		if denied, err := d.any(r, true); err != nil || denied {
			return ExplicitDeny, err
		}
	}
	if s.Session != nil {
		if allowed, err := s.Session.any(r, false); err != nil || !allowed {
			return ImplicitDeny, err
		}
	}
	for _, d := range s.Identity {
		if allowed, err := d.any(r, false); err != nil || allowed {
			return allow(err), err
		}
	}
	return ImplicitDeny, nil
}

func allow(err error) Decision {
	if err != nil {
		return ImplicitDeny
	}
	return Allow
}

// Grants reports whether an action is allowed on any resource under any conditions. Whoever it is not
// granted to need not even be told that the request is malformed.
func (s Set) Grants(action string) bool {
	granted := func(d *Document) bool {
		for _, st := range d.statements {
			if !st.deny && st.names(action) {
				return true
			}
		}
		return false
	}
	if s.Session != nil && !granted(s.Session) {
		return false
	}
	for _, d := range s.Identity {
		if granted(d) {
			return true
		}
	}
	return false
}

// any reports whether a statement of the wanted effect applies.
func (d *Document) any(r Request, deny bool) (bool, error) {
	for i := range d.statements {
		st := &d.statements[i]
		if st.deny != deny {
			continue
		}
		if applies, err := st.applies(r); err != nil || applies {
			return applies, err
		}
	}
	return false, nil
}

func (st *statement) applies(r Request) (bool, error) {
	if !st.names(r.Action) {
		return false, nil
	}
	if hit, err := matchAny(st.resources, st.notResources, r.Resource, r.Values); err != nil || !hit {
		return false, err
	}
	for i := range st.conditions {
		if met, err := st.conditions[i].met(r.Values); err != nil || !met {
			return false, err
		}
	}
	return true, nil
}

// names reports whether the statement is about the action.
func (st *statement) names(action string) bool {
	hit, _ := matchAny(st.actions, st.notActions, lower(action), nil) // actions have no variables, so nothing can fail
	return hit
}

// matchAny is whether a pattern of in, or else none of notIn, matches.
func matchAny(in, notIn []pattern, s string, values func(string) ([]string, error)) (bool, error) {
	list, want := in, true
	if len(in) == 0 {
		list, want = notIn, false
	}
	for _, p := range list {
		if hit, err := p.match(s, values); err != nil || hit {
			return hit == want && err == nil, err
		}
	}
	return !want, nil
}
