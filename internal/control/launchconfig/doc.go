// Package launchconfig keeps how servers are launched, for both services: templates, each server's own
// configuration, and the actions to be done on launched machines. internal/awsapi edits it, whoever launches
// reads it, and internal/app lets it take part in the adding of servers.
package launchconfig
