package mgnapi

import (
	"errors"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/state"
)

// paged answers one page of a list. query is what decides which list it is.
func paged[T, V any](query any, limit *int32, token *string, list func(state.Page) ([]T, string, error), view func(*T) V) ([]V, *string, error) {
	page, err := wireform.Page(query, limit, token)
	if err != nil {
		return nil, nil, err
	}
	items, next, err := list(page)
	if err != nil {
		return nil, nil, err
	}
	out := make([]V, len(items))
	for i := range items {
		out[i] = view(&items[i])
	}
	after, err := wireform.NextToken(query, next)
	return out, after, err
}

// several tells each resource's part in a conflict of many: of both services only MGN's exception has room for it.
func several(err error) error {
	many, ok := errors.AsType[*control.ResourceErrors](err)
	if !ok {
		return err
	}
	x := &mgn.ConflictException{Code: "ConflictException", Message: many.Message}
	for _, e := range many.Each {
		x.Errors = append(x.Errors, mgn.ErrorDetails{Code: new("ConflictException"), Message: new(e.Err.Error()),
			ResourceId: new(e.ID), ResourceType: new(e.Type)})
	}
	return x
}
