package access

import (
	"maps"
	"slices"
	"strings"

	"github.com/understudy-dr/understudy/internal/control/access/policy"
)

// The built-in policies, which are the roles of an installation.
const (
	Administrator  = "administrator"
	Operator       = "operator"
	ReadOnly       = "read-only"
	AgentInstaller = "agent-installer"
)

// BuiltIn is a policy that every account has.
type BuiltIn struct {
	Name, Means, Document string
	parsed                *policy.Document
}

// builtIn are the built-in policies. None denies anything, so that they can be combined.
var builtIn = parsed([]BuiltIn{
	{Name: Administrator, Means: "everything", Document: `{
  "Version": "2012-10-17",
  "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}
}`},
	{Name: Operator, Means: "everything of daily work: no setting up of services, no managing of access, no backups", Document: `{
  "Version": "2012-10-17",
  "Statement": [
    {"Effect": "Allow", "NotAction": ["drs:InitializeService", "mgn:InitializeService", "understudy:*"], "Resource": "*"},
    {"Effect": "Allow", "Action": ["understudy:Get*", "understudy:List*", "understudy:ReadVolume", "understudy:RegisterAgent",
      "understudy:CreateWebhook", "understudy:DeleteWebhook", "understudy:ChangeJournal", "understudy:ScrubJournal", "understudy:HoldPoint",
      "understudy:ReleasePin", "understudy:CreatePoint", "understudy:DeletePoint"], "Resource": "*"}
  ]
}`},
	{Name: ReadOnly, Means: "look at everything but the disks' content", Document: `{
  "Version": "2012-10-17",
  "Statement": {"Effect": "Allow", "Resource": "*", "Action": [
    "drs:Describe*", "drs:Get*", "drs:List*", "mgn:Describe*", "mgn:Get*", "mgn:List*",
    "ec2:Describe*", "ec2:Get*", "sts:GetCallerIdentity", "understudy:Get*", "understudy:List*"
  ]}
}`},
	{Name: AgentInstaller, Means: "register source servers, and nothing else: for the machines that agents are installed on", Document: `{
  "Version": "2012-10-17",
  "Statement": {"Effect": "Allow", "Action": "understudy:RegisterAgent", "Resource": "*"}
}`},
})

func parsed(list []BuiltIn) map[string]BuiltIn {
	out := map[string]BuiltIn{}
	for _, b := range list {
		// A test sees that all of them parse; one that does not allows nothing.
		if d, err := policy.Parse([]byte(b.Document)); err == nil {
			b.parsed = d
			out[b.Name] = b
		}
	}
	return out
}

func builtInNames() string { return strings.Join(slices.Sorted(maps.Keys(builtIn)), ", ") }
