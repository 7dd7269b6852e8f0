package awsapi

import (
	"errors"
	"math"
	"time"

	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

const (
	validation     = "ValidationException"
	conflict       = "ConflictException"
	notFound       = "ResourceNotFoundException"
	quota          = "ServiceQuotaExceededException"
	accessDenied   = "AccessDeniedException"
	throttling     = "ThrottlingException"
	internalServer = "InternalServerException"
)

// codes are the answers to each kind of fault, best first: an operation gives the first that its model
// lists. So an unknown server is a validation error of MGN's StartTest and a conflict of DRS's
// StartRecovery, as clients know them; a kind without codes is an internal error.
var codes = map[fault.Kind][]string{
	fault.Invalid:     {validation, conflict},
	fault.NotFound:    {notFound, validation, conflict},
	fault.Conflict:    {conflict, validation},
	fault.Denied:      {accessDenied},
	fault.Unsupported: {validation, conflict},
	fault.OutOfSpace:  {quota, conflict, validation},
}

// quotaCodes are the answers to control.ErrQuota, best first.
var quotaCodes = []string{quota, conflict, validation}

// unlisted are the codes that the real services answer although the model does not list them.
var unlisted = map[string][]string{
	"CreateReplicationConfigurationTemplate": {quota},
}

// retryAfter is what a client is asked to wait when a fault will pass by itself.
const retryAfter = 2 * time.Second

// translate chooses the code and the content of the answer to a domain error.
func translate(service string, op *rest.Operation, err error) (string, rest.Detail) {
	d := rest.Detail{Message: control.Message(err), Reason: rest.ReasonOther}
	if r, ok := errors.AsType[*control.ResourceError](err); ok {
		d.ResourceID, d.ResourceType = r.ID, r.Type
	}
	if f, ok := errors.AsType[*control.FieldError](err); ok {
		d.Reason = rest.ReasonFieldValidation
		for _, field := range f.Fields {
			d.Fields = append(d.Fields, rest.Field{Name: field.Name, Message: field.Message})
		}
	}
	if slow, ok := errors.AsType[*control.ThrottleError](err); ok {
		d.RetryAfter, d.QuotaCode = slow.Wait, slow.Quota
		return throttling, d
	}
	if q, ok := errors.AsType[*control.QuotaError](err); ok {
		d.QuotaCode = quotas.WireCode(state.Service(service), q.What)
	}
	switch kind := fault.KindOf(err); {
	case errors.Is(err, control.ErrUninitialized):
		d.Message = "Account not initialized"
		return uninitialized, d
	case errors.Is(err, control.ErrQuota):
		return firstDeclared(op, quotaCodes), d
	case kind == fault.Denied:
		return accessDenied, d
	case kind == fault.Transient || kind == fault.Fenced:
		d.RetryAfter = retryAfter
		return internalServer, d
	default:
		return firstDeclared(op, codes[kind]), d
	}
}

// firstDeclared is the first code that the model or the real service's habit allows, else the best.
func firstDeclared(op *rest.Operation, wanted []string) string {
	for _, code := range wanted {
		if op.Declares(code) {
			return code
		}
		for _, extra := range unlisted[op.Name] {
			if extra == code {
				return code
			}
		}
	}
	if len(wanted) == 0 {
		return internalServer
	}
	return wanted[0]
}

// quotaValue is the size of the quota that an error stands for, if it tells.
func quotaValue(err error) *int32 {
	if q, ok := errors.AsType[*control.QuotaError](err); ok {
		return new(int32(min(q.Value, math.MaxInt32)))
	}
	return nil
}
