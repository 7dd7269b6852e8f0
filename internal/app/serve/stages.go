package serve

import (
	"context"
	"errors"
)

// stage is something that works until its context ends.
type stage func(ctx context.Context) error

// runStages starts stages in order and, when ctx ends or one of them does, stops them in reverse order, each only
// after those that use it have ended.
func runStages(ctx context.Context, stages ...stage) error {
	type running struct {
		stop context.CancelFunc
		done chan error
	}
	ended := make(chan struct{}, len(stages))
	var all []running
	for _, s := range stages {
		own, stop := context.WithCancel(context.WithoutCancel(ctx))
		r := running{stop, make(chan error, 1)}
		all = append(all, r)
		go func() {
			r.done <- s(own)
			ended <- struct{}{}
		}()
	}
	select {
	case <-ctx.Done():
	case <-ended:
	}
	var err error
	for i := len(all) - 1; i >= 0; i-- {
		all[i].stop()
		err = errors.Join(err, <-all[i].done)
	}
	return err
}
