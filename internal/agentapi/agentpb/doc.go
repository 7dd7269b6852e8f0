// Package agentpb holds the messages of the agent service, generated from agent.proto. internal/agentapi
// serves them and the agent sends them.
package agentpb
