package control

import "github.com/understudy-dr/understudy/internal/fault"

// Message is an error as a client is told it: the cause in the domain's words, without the names of our
// packages, and the next step.
func Message(err error) string {
	cause := err
	for {
		f, ok := cause.(*fault.Error) //nolint:errorlint // the chain is walked here, one link at a time
		if !ok || f.Err == nil {
			break
		}
		cause = f.Err
	}
	if hint := fault.HintOf(err); hint != "" {
		return cause.Error() + " (" + hint + ")"
	}
	return cause.Error()
}
