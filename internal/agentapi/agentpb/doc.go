// Package agentpb is what the agent and the control plane have in common: the messages of the agent
// service, generated from agent.proto, and how a classified error travels. internal/agentapi and
// internal/app/agent import it.
package agentpb
