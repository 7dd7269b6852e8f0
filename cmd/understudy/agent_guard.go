package main

import "github.com/understudy-dr/understudy/internal/consistency"

// agentGuardCmd is the process that thaws whatever happens to the agent, which starts it.
type agentGuardCmd struct {
	Args []string `arg:""`
}

func (c *agentGuardCmd) Run() error { return consistency.Guard(c.Args) }
