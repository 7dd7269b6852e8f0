package wireform

import "github.com/understudy-dr/understudy/internal/state"

// Steps are all eleven initiation steps of an attempt in order, with those it does not know NOT_STARTED.
func Steps(a state.Attempt) []state.Step {
	steps := make([]state.Step, len(state.StepNames))
	for i, name := range state.StepNames {
		steps[i] = state.Step{Name: name, Status: state.NotStarted}
		if i < len(a.Steps) && a.Steps[i].Name == name { // as they are, nearly always
			steps[i] = a.Steps[i]
			continue
		}
		for _, s := range a.Steps {
			if s.Name == name {
				steps[i] = s
			}
		}
	}
	return steps
}
