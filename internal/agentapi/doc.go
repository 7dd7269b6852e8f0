// Package agentapi is the control port's edge towards agents: registration and the handshake, as a
// Connect service whose shapes are in agent.proto. internal/app/serve mounts its handler; the agent uses
// the generated client in agentpb.
package agentapi

//go:generate sh generate.sh
