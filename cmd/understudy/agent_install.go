package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/understudy-dr/understudy/internal/app/agent"
	"github.com/understudy-dr/understudy/internal/fault"
)

type agentInstallCmd struct {
	agentFlags   `embed:""`
	Devices      []string `help:"Disks to replicate, as /dev/sda,/dev/sdb; all hardware disks when none is named."`
	ForceVolumes bool     `help:"Take --devices as they are, whatever they are made of." name:"force-volumes"`
	DataAddress  string   `help:"The replication server's host:port to examine, where it is not port 1500 of the endpoint." name:"data-address"`
	NoPrompt     bool     `help:"Ask nothing." name:"no-prompt"`
	Root         string   `hidden:"" type:"path" default:"/"`
	MoreTags     []string `arg:"" optional:"" name:"tag" help:"More tags, as AWS's installer takes them: --tags KEY=VALUE KEY=VALUE."`
}

func (c *agentInstallCmd) Run(ctx context.Context, log *slog.Logger) error {
	for _, t := range c.MoreTags {
		key, value, ok := strings.Cut(t, "=")
		if !ok || c.Tags == nil {
			return fault.New(fault.Invalid, "agent: install", "%q is no flag, and no tag behind --tags", t).WithHint("tags look like KEY=VALUE")
		}
		c.Tags[key] = value
	}
	i := agent.Installation{Config: c.config(c.Devices, log), ForceVolumes: c.ForceVolumes, DataAddress: c.DataAddress, Root: c.Root, Out: os.Stdout}
	if !c.NoPrompt {
		i.Confirm = confirm
	}
	return agent.Install(ctx, i)
}

// confirm asks on standard input. Where nobody answers the answer is no.
func confirm(question string) bool {
	fmt.Printf("%s [y/N] ", question)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	if err != nil {
		fmt.Println()
	}
	return answer == "y" || answer == "yes"
}

type agentUninstallCmd struct {
	stateDir `embed:""`
	Root     string `hidden:"" type:"path" default:"/"`
}

func (c *agentUninstallCmd) Run(ctx context.Context, log *slog.Logger) error {
	return agent.Uninstall(ctx, c.StateDir, c.Root, log)
}
