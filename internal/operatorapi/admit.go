package operatorapi

import (
	"net/http"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/operatorapi/schema"
	"github.com/understudy-dr/understudy/internal/sigv4"
)

// action is what policies call an operation.
type action struct {
	name     string
	resource string // kind of the resource in the path, and the parameter that names it
	param    string
	home     bool // concerns the whole installation: only its own account may
}

// administer is the action of operations that the table does not name: administrators alone may.
var administer = action{name: "Administer", home: true}

// actions are the operations by their pattern. Names that begin with Get or List only look.
var actions = map[string]action{
	"GET " + schema.PathPoints:       {name: "GetPoints", resource: "source-server", param: "server"},
	"POST " + schema.PathPoints:      {name: "CreatePoint", resource: "source-server", param: "server"},
	"GET " + schema.PathPointRequest: {name: "GetPoints", resource: "source-server", param: "server"},
	"GET " + schema.PathResolve:      {name: "GetPoint", resource: "source-server", param: "server"},
	"GET " + schema.PathVolume:       {name: "ReadVolume", resource: "source-server", param: "server"},
	"DELETE " + schema.PathPointOne:  {name: "DeletePoint", resource: "source-server", param: "server"},

	"GET " + schema.PathEvents:     {name: "GetEvents"},
	"GET " + schema.PathWebhooks:   {name: "ListWebhooks"},
	"POST " + schema.PathWebhooks:  {name: "CreateWebhook"},
	"DELETE " + schema.PathWebhook: {name: "DeleteWebhook", resource: "webhook", param: "webhook"},

	"GET " + schema.PathUsage:    {name: "GetUsage"},
	"GET " + schema.PathJournal:  {name: "GetJournal", resource: "source-server", param: "server"},
	"POST " + schema.PathJournal: {name: "ChangeJournal", resource: "source-server", param: "server"},
	"POST " + schema.PathScrub:   {name: "ScrubJournal", resource: "source-server", param: "server"},
	"GET " + schema.PathPins:     {name: "ListPins"},
	"POST " + schema.PathHold:    {name: "HoldPoint", resource: "source-server", param: "server"},
	"DELETE " + schema.PathPin:   {name: "ReleasePin", resource: "pin", param: "pin"},
	"GET " + schema.PathKeys:     {name: "ListWrappingKeys", home: true},
	"POST " + schema.PathKeys:    {name: "RotateWrappingKey", home: true},
	"DELETE " + schema.PathKey:   {name: "RetireWrappingKey", resource: "key", param: "key", home: true},

	"GET " + schema.PathAccounts:  {name: "ListAccounts", home: true},
	"POST " + schema.PathAccounts: {name: "CreateAccount", home: true},
	"GET " + schema.PathAccount:   {name: "GetAccount"},
	"POST " + schema.PathAccount:  {name: "ChangeAccount", home: true},
	"GET " + schema.PathQuotas:    {name: "ListQuotas"},

	"GET " + schema.PathUsers:     {name: "ListUsers"},
	"POST " + schema.PathUsers:    {name: "CreateUser"},
	"POST " + schema.PathUser:     {name: "ChangeUser", resource: "user", param: "user"},
	"DELETE " + schema.PathUser:   {name: "DeleteUser", resource: "user", param: "user"},
	"GET " + schema.PathUserKeys:  {name: "ListAccessKeys", resource: "user", param: "user"},
	"POST " + schema.PathUserKeys: {name: "CreateAccessKey", resource: "user", param: "user"},
	"GET " + schema.PathAccess:    {name: "ListAccessKeys"},

	"GET " + schema.PathPolicies:   {name: "ListPolicies"},
	"PUT " + schema.PathPolicy:     {name: "PutPolicy", resource: "policy", param: "policy"},
	"DELETE " + schema.PathPolicy:  {name: "DeletePolicy", resource: "policy", param: "policy"},
	"GET " + schema.PathRoles:      {name: "ListRoles"},
	"PUT " + schema.PathRole:       {name: "PutRole", resource: "role", param: "role"},
	"DELETE " + schema.PathRole:    {name: "DeleteRole", resource: "role", param: "role"},
	"GET " + schema.PathSessions:   {name: "ListSessions"},
	"DELETE " + schema.PathSession: {name: "RevokeSession"},
	"POST " + schema.PathDecision:  {name: "GetDecision"},
}

// free are operations that ask for admission themselves, or need none.
var free = map[string]bool{
	"GET " + schema.PathCaller:      true, // nobody can be denied knowing who they are
	"POST " + schema.PathAccessID:   true, // about a user that only the key's record names
	"DELETE " + schema.PathAccessID: true,
}

// admit lets the caller do what the request is for, or says why not.
func (h *Handler) admit(r *http.Request) error {
	if free[r.Pattern] {
		return nil
	}
	a, ok := actions[r.Pattern]
	if !ok {
		a = administer
	}
	caller, ok := sigv4.CallerFrom(r.Context())
	if !ok {
		return fault.New(fault.Denied, "", "the request is not signed")
	}
	if a.home && caller.AccountID != h.Home {
		return fault.New(fault.Denied, "", "this concerns the whole installation, which account %s manages", h.Home)
	}
	account, err := h.account(r)
	if err != nil {
		return err
	}
	return h.Authorize(r.Context(), schema.Service+":"+a.name, h.resource(a, account, r)...)
}

// account is the account that the request is about. Only the installation's own account may manage another.
func (h *Handler) account(r *http.Request) (string, error) {
	caller, ok := sigv4.CallerFrom(r.Context())
	if !ok {
		return "", fault.New(fault.Denied, "", "the request is not signed")
	}
	account := r.PathValue("account")
	switch account {
	case "", schema.Self, caller.AccountID:
		return caller.AccountID, nil
	}
	if caller.AccountID != h.Home {
		return "", fault.New(fault.Denied, "", "account %s may not manage account %s", caller.AccountID, account)
	}
	return account, nil
}

// resource is the ARN that policies are asked about: IAM's for what IAM has, ours for the rest.
func (h *Handler) resource(a action, account string, r *http.Request) []string {
	switch a.resource {
	case "":
		return nil
	case "user", "role", "policy":
		return []string{"arn:aws:iam::" + account + ":" + a.resource + "/" + r.PathValue(a.param)}
	}
	return []string{"arn:aws:" + schema.Service + ":" + h.Region + ":" + account + ":" + a.resource + "/" + r.PathValue(a.param)}
}
