// Package replication runs the data replication of every source server. Intent (run, pause, stop,
// disconnect) is stored; the world (agents' handshakes, what the replication server measures) is
// observed; a reconciler moves one to the other in idempotent steps, so that a crash at any step
// resumes. The state machine is the table in machine.go. internal/app assembles the Engine; the edges
// reach it through the interfaces of internal/control and internal/agentapi.
package replication
