package wireform

import "github.com/understudy-dr/understudy/internal/state"

// Steps are all eleven initiation steps of an attempt in order, with those it does not know NOT_STARTED.
func Steps(a state.Attempt) []state.Step {
	known := map[state.StepName]state.Step{}
	for _, s := range a.Steps {
		known[s.Name] = s
	}
	steps := make([]state.Step, 0, len(state.StepNames))
	for _, name := range state.StepNames {
		s, ok := known[name]
		if !ok {
			s = state.Step{Name: name, Status: state.NotStarted}
		}
		steps = append(steps, s)
	}
	return steps
}
