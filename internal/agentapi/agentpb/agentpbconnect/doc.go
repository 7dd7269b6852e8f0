// Package agentpbconnect is the agent service's generated client and handler. internal/agentapi mounts
// the handler; the agent uses the client.
package agentpbconnect
