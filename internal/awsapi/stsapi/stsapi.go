// Package stsapi is the STS that automation for DRS and MGN begins with: who am I, and temporary
// credentials of a role or a user. internal/app/serve mounts it at the endpoint in awsapi, under the signing
// name sts.
package stsapi

import (
	"context"
	"encoding/xml"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/understudy-dr/understudy/internal/awsapi/query"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/access"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/sigv4"
)

// Name is the signing name.
const Name = "sts"

const namespace = "https://sts.amazonaws.com/doc/2011-06-15/"

// Credentials makes temporary credentials.
type Credentials interface {
	AssumeRole(ctx context.Context, caller control.Principal, a access.Assume) (control.AccessKey, error)
	SessionToken(ctx context.Context, caller control.Principal, length time.Duration) (control.AccessKey, error)
}

// API is the service.
type API struct {
	Credentials Credentials
	Authorize   control.Authorize
	Log         *slog.Logger
}

var _ http.Handler = (*API)(nil)

type answer struct {
	XMLName xml.Name
	Xmlns   string `xml:"xmlns,attr"`
	Result  any
	Meta    metadata `xml:"ResponseMetadata"`
}

type metadata struct {
	RequestID string `xml:"RequestId"`
}

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	requestID := w.Header().Get("X-Amzn-Requestid")
	form, err := query.Read(r)
	action := form.Get("Action")
	var out any
	if err == nil {
		out, err = a.do(r.Context(), action, form)
	}
	if err != nil {
		a.Refuse(w, requestID, a.refusal(err))
		return
	}
	a.write(w, http.StatusOK, answer{XMLName: xml.Name{Local: action + "Response"}, Xmlns: namespace,
		Result: out, Meta: metadata{requestID}})
}

func (a *API) write(w http.ResponseWriter, status int, document any) {
	if err := query.Write(w, status, document); err != nil {
		a.Log.Error("an answer of sts could not be written", "err", err)
	}
}

func (a *API) do(ctx context.Context, action string, form query.Form) (any, error) {
	switch action {
	case "GetCallerIdentity":
		return a.callerIdentity(ctx), nil // nobody can be denied knowing who they are
	case "AssumeRole":
		return a.assumeRole(ctx, form)
	case "GetSessionToken":
		return a.sessionToken(ctx, form)
	}
	return nil, &sigv4.Error{Code: "InvalidAction", Status: http.StatusBadRequest,
		Message: "The action " + action + " is not one that this endpoint has: it has AssumeRole, GetCallerIdentity and GetSessionToken."}
}

type callerIdentity struct {
	XMLName xml.Name `xml:"GetCallerIdentityResult"`
	Arn     string
	UserID  string `xml:"UserId"`
	Account string
}

func (a *API) callerIdentity(ctx context.Context) callerIdentity {
	p := control.PrincipalFrom(ctx)
	return callerIdentity{Arn: p.ARN, UserID: p.ID, Account: p.Account}
}

type credentials struct {
	AccessKeyID     string `xml:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      string
}

func shown(k control.AccessKey) credentials {
	return credentials{k.ID, k.Secret, k.Token, k.Expires.UTC().Format(time.RFC3339)}
}

type assumed struct {
	XMLName         xml.Name `xml:"AssumeRoleResult"`
	AssumedRoleUser struct {
		Arn           string
		AssumedRoleID string `xml:"AssumedRoleId"`
	}
	Credentials      credentials
	PackedPolicySize *int `xml:",omitempty"`
}

// refused are parameters of AssumeRole that would change what the session may do, and cannot here.
var refused = []string{"PolicyArns.member.1.arn", "SerialNumber", "TokenCode", "Tags.member.1.Key", "TransitiveTagKeys.member.1", "ExternalId"}

func (a *API) assumeRole(ctx context.Context, form query.Form) (any, error) {
	for _, name := range refused {
		if form.Has(name) {
			return nil, invalid("The parameter " + name + " is not supported here.")
		}
	}
	length, err := form.Int("DurationSeconds")
	if err != nil {
		return nil, err
	}
	want := access.Assume{RoleARN: form.Get("RoleArn"), Name: form.Get("RoleSessionName"), Policy: form.Get("Policy"), Length: seconds(length)}
	if err := a.Authorize(ctx, "sts:AssumeRole", want.RoleARN); err != nil {
		return nil, err
	}
	key, err := a.Credentials.AssumeRole(ctx, control.PrincipalFrom(ctx), want)
	if err != nil {
		return nil, err
	}
	out := assumed{Credentials: shown(key)}
	out.AssumedRoleUser.Arn, out.AssumedRoleUser.AssumedRoleID = key.Principal.ARN, key.Principal.ID
	if want.Policy != "" {
		out.PackedPolicySize = new(min(100, 100*len(want.Policy)/maxPolicy))
	}
	return out, nil
}

const maxPolicy = 6144

type session struct {
	XMLName     xml.Name `xml:"GetSessionTokenResult"`
	Credentials credentials
}

func (a *API) sessionToken(ctx context.Context, form query.Form) (any, error) {
	length, err := form.Int("DurationSeconds")
	if err != nil {
		return nil, err
	}
	if err := a.Authorize(ctx, "sts:GetSessionToken"); err != nil {
		return nil, err
	}
	key, err := a.Credentials.SessionToken(ctx, control.PrincipalFrom(ctx), seconds(length))
	return session{Credentials: shown(key)}, err
}

// seconds is a length as asked for, kept from overflowing.
func seconds(n int64) time.Duration {
	const most = int64(1 << 30)
	return time.Duration(max(-most, min(n, most))) * time.Second
}

func invalid(message string) *sigv4.Error {
	return &sigv4.Error{Code: "ValidationError", Status: http.StatusBadRequest, Message: message}
}

// refusal is a domain error in STS's words.
func (a *API) refusal(err error) *sigv4.Error {
	if e, ok := errors.AsType[*sigv4.Error](err); ok {
		return e
	}
	message := control.Message(err)
	switch {
	case errors.As(err, new(*control.ThrottleError)):
		return &sigv4.Error{Code: "Throttling", Status: http.StatusBadRequest, Message: message}
	case fault.Is(err, fault.Denied):
		return &sigv4.Error{Code: "AccessDenied", Status: http.StatusForbidden, Message: message}
	case fault.Is(err, fault.Invalid), fault.Is(err, fault.NotFound), fault.Is(err, fault.Conflict):
		return invalid(message)
	}
	a.Log.Error("sts operation failed", "err", err)
	return &sigv4.Error{Code: "InternalFailure", Status: http.StatusInternalServerError, Message: "An internal error occurred."}
}

// codes are STS's words for refusals that are worded otherwise in JSON services.
var codes = map[string]string{
	"UnrecognizedClientException": "InvalidClientTokenId", "InvalidSignatureException": "SignatureDoesNotMatch",
	"IncompleteSignatureException": "IncompleteSignature", "MissingAuthenticationTokenException": "MissingAuthenticationToken",
	"ExpiredTokenException": "ExpiredToken", "InternalServerException": "InternalFailure",
}

type errorAnswer struct {
	XMLName xml.Name `xml:"ErrorResponse"`
	Xmlns   string   `xml:"xmlns,attr"`
	Error   struct {
		Type, Code, Message string
	}
	RequestID string `xml:"RequestId"`
}

// Refuse answers with an error.
func (a *API) Refuse(w http.ResponseWriter, requestID string, e *sigv4.Error) {
	out := errorAnswer{Xmlns: namespace, RequestID: requestID}
	out.Error.Type, out.Error.Code, out.Error.Message = "Sender", e.Code, e.Message
	if code, ok := codes[e.Code]; ok {
		out.Error.Code = code
	}
	if e.Status >= http.StatusInternalServerError {
		out.Error.Type = "Receiver"
	}
	w.Header().Set("X-Amzn-Errortype", out.Error.Code)
	a.write(w, e.Status, out)
}
