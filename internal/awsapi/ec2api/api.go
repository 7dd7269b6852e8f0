// Package ec2api is as much of EC2 as the clients of DRS and MGN go on to: launch templates, which say how
// the next launch is made, and what machines, sizes, subnets and security groups there are. It holds no
// rules of its own. internal/app/serve mounts it at the endpoint in awsapi, under the signing name ec2.
package ec2api

import (
	"context"
	"encoding/xml"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/understudy-dr/understudy/internal/awsapi/query"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/hostnets"
	"github.com/understudy-dr/understudy/internal/control/launchtemplates"
	"github.com/understudy-dr/understudy/internal/control/sizes"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/sigv4"
	"github.com/understudy-dr/understudy/internal/state"
)

// Name is the signing name.
const Name = "ec2"

const namespace = "http://ec2.amazonaws.com/doc/2016-11-15/"

// Templates keeps launch templates.
type Templates interface {
	Create(ctx context.Context, account, name string, tags map[string]string, d launchtemplates.Draft) (state.LaunchTemplate, state.LaunchTemplateVersion, error)
	CreateVersion(ctx context.Context, account string, ref launchtemplates.Ref, source string, d launchtemplates.Draft) (state.LaunchTemplate, state.LaunchTemplateVersion, error)
	SetDefault(ctx context.Context, account string, ref launchtemplates.Ref, version string) (state.LaunchTemplate, error)
	Delete(ctx context.Context, account string, ref launchtemplates.Ref) (state.LaunchTemplate, error)
	Get(ctx context.Context, account string, ref launchtemplates.Ref) (state.LaunchTemplate, error)
	List(ctx context.Context, account string, f state.LaunchTemplateFilter, p state.Page) ([]state.LaunchTemplate, string, error)
	Version(ctx context.Context, account string, ref launchtemplates.Ref, version string) (state.LaunchTemplate, state.LaunchTemplateVersion, error)
	Versions(ctx context.Context, account string, ref launchtemplates.Ref, p state.Page) (state.LaunchTemplate, []state.LaunchTemplateVersion, string, error)
}

// API is the service.
type API struct {
	Templates Templates
	Sizes     *sizes.Catalogue
	Networks  *hostnets.Catalogue
	Machines  Machines // nil: nothing is launched
	Authorize control.Authorize
	Region    string
	Log       *slog.Logger
}

var _ http.Handler = (*API)(nil)

// call is one request.
type call struct {
	*API
	ctx    context.Context
	form   query.Form
	who    control.Principal
	name   xml.Name // of the answer
	header header
}

// header begins every answer.
type header struct {
	Xmlns     string `xml:"xmlns,attr"`
	RequestID string `xml:"requestId"`
}

var actions = map[string]func(*call) (any, error){
	"DescribeLaunchTemplates":        (*call).describeLaunchTemplates,
	"DescribeLaunchTemplateVersions": (*call).describeLaunchTemplateVersions,
	"CreateLaunchTemplate":           (*call).createLaunchTemplate,
	"CreateLaunchTemplateVersion":    (*call).createLaunchTemplateVersion,
	"ModifyLaunchTemplate":           (*call).modifyLaunchTemplate,
	"DeleteLaunchTemplate":           (*call).deleteLaunchTemplate,
	"DescribeInstances":              (*call).describeInstances,
	"DescribeInstanceTypes":          (*call).describeInstanceTypes,
	"DescribeSubnets":                (*call).describeSubnets,
	"DescribeSecurityGroups":         (*call).describeSecurityGroups,
}

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	requestID := w.Header().Get("X-Amzn-Requestid")
	form, err := query.Read(r)
	var out any
	if err == nil {
		action := form.Get("Action")
		c := &call{API: a, ctx: r.Context(), form: form, who: control.PrincipalFrom(r.Context()),
			name: xml.Name{Local: action + "Response"}, header: header{namespace, requestID}}
		do, ok := actions[action]
		if ok {
			out, err = do(c)
		} else {
			err = wrong("InvalidAction", "The action "+action+" is not valid for this web service.")
		}
	}
	if err != nil {
		a.Refuse(w, requestID, a.refusal(err))
		return
	}
	a.write(w, http.StatusOK, out)
}

func (a *API) write(w http.ResponseWriter, status int, document any) {
	if err := query.Write(w, status, document); err != nil {
		a.Log.Error("an answer of ec2 could not be written", "err", err)
	}
}

// may admits the caller. With DryRun that is all that is asked.
func (c *call) may(resources ...string) error {
	if err := c.Authorize(c.ctx, "ec2:"+c.form.Get("Action"), resources...); err != nil {
		return err
	}
	dry, err := c.form.Bool("DryRun")
	if err == nil && dry {
		return &sigv4.Error{Code: "DryRunOperation", Status: http.StatusPreconditionFailed, Message: "Request would have succeeded, but DryRun flag is set."}
	}
	return err
}

// instant is a time as EC2 writes it.
type instant time.Time

// MarshalText writes the time.
func (t instant) MarshalText() ([]byte, error) {
	return []byte(time.Time(t).UTC().Format("2006-01-02T15:04:05.000Z")), nil
}

// tag is one tag of an answer.
type tag struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

// ResourceTags are a launch template's tags.
func (a *API) ResourceTags(ctx context.Context, arn string) (map[string]string, error) {
	who := control.PrincipalFrom(ctx)
	id, ok := cutPrefix(arn, a.templateARN(who.Account, ""))
	if !ok {
		return nil, nil
	}
	t, err := a.Templates.Get(ctx, who.Account, launchtemplates.Ref{ID: id})
	return t.Tags, err
}

func wrong(code, message string) *sigv4.Error {
	return &sigv4.Error{Code: code, Status: http.StatusBadRequest, Message: message}
}

// refusal is a domain error in EC2's words.
func (a *API) refusal(err error) *sigv4.Error {
	if e, ok := errors.AsType[*sigv4.Error](err); ok {
		return e
	}
	message := control.Message(err)
	if errors.As(err, new(*control.ThrottleError)) {
		return &sigv4.Error{Code: "RequestLimitExceeded", Status: http.StatusServiceUnavailable, Message: "Request limit exceeded."}
	}
	if r, ok := errors.AsType[*control.ResourceError](err); ok {
		return wrong(resourceCode(r, fault.KindOf(err)), message)
	}
	switch fault.KindOf(err) {
	case fault.Denied:
		return &sigv4.Error{Code: "UnauthorizedOperation", Status: http.StatusForbidden,
			Message: "You are not authorized to perform this operation. " + message}
	case fault.Invalid:
		return wrong("InvalidParameterValue", message)
	case fault.Unsupported:
		return wrong("UnsupportedOperation", message)
	}
	a.Log.Error("ec2 operation failed", "err", err)
	return &sigv4.Error{Code: "InternalError", Status: http.StatusInternalServerError, Message: "An internal error has occurred"}
}

func resourceCode(r *control.ResourceError, kind fault.Kind) string {
	switch {
	case errors.Is(r.Err, launchtemplates.ErrExists):
		return "InvalidLaunchTemplateName.AlreadyExistsException"
	case kind == fault.Conflict:
		return "OperationNotPermitted"
	case r.Type == launchtemplates.Version:
		return "InvalidLaunchTemplateId.VersionNotFound"
	case r.Type == launchtemplates.TemplateName:
		return "InvalidLaunchTemplateName.NotFoundException"
	}
	return "InvalidLaunchTemplateId.NotFound"
}

// codes are EC2's words for refusals that are worded otherwise in JSON services.
var codes = map[string]string{
	"UnrecognizedClientException": "AuthFailure", "InvalidSignatureException": "SignatureDoesNotMatch",
	"IncompleteSignatureException": "IncompleteSignature", "MissingAuthenticationTokenException": "MissingAuthenticationToken",
	"ExpiredTokenException": "RequestExpired", "InternalServerException": "InternalError",
}

type errorAnswer struct {
	XMLName   xml.Name    `xml:"Response"`
	Errors    []errorItem `xml:"Errors>Error"`
	RequestID string      `xml:"RequestID"`
}

type errorItem struct{ Code, Message string }

// Refuse answers with an error.
func (a *API) Refuse(w http.ResponseWriter, requestID string, e *sigv4.Error) {
	item := errorItem{e.Code, e.Message}
	if code, ok := codes[e.Code]; ok {
		item.Code = code
	}
	w.Header().Set("X-Amzn-Errortype", item.Code)
	a.write(w, e.Status, errorAnswer{Errors: []errorItem{item}, RequestID: requestID})
}
