package wireform

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"

	"github.com/understudy-dr/understudy/api/rest"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// token is a nextToken's content: where the next page begins, and a digest of that with the query, so that neither can be
// another's. Whoever computes one sees no more than the list that it is for.
type token struct {
	After string `json:"a"`
	List  []byte `json:"l"`
}

// ErrToken is in the chain of the refusal of a page token. Any list may refuse one, whatever errors its model has.
var ErrToken = errors.New("nextToken is not one of this list")

// Page reads maxResults and nextToken. query is everything else that decides which list it is (operation,
// account, filters); a token of another list is refused.
func Page(query any, maxResults *int32, nextToken *string) (state.Page, error) {
	p := state.Page{Limit: rest.DefaultPage}
	if maxResults != nil {
		p.Limit = min(int(*maxResults), state.MaxLimit)
	}
	if nextToken == nil || *nextToken == "" {
		return p, nil
	}
	refused := fault.New(fault.Invalid, "awsapi: read page token", "%w", ErrToken).
		WithHint("send the token of the last answer with the same filters, or none")
	var t token
	raw, err := base64.RawURLEncoding.Strict().DecodeString(*nextToken)
	if err != nil || json.Unmarshal(raw, &t) != nil {
		return p, refused
	}
	if want, err := digest(query, t.After); err != nil || string(want) != string(t.List) {
		return p, refused
	}
	p.After = t.After
	return p, nil
}

// NextToken hides where the next page begins; nil on the last page.
func NextToken(query any, next string) (*string, error) {
	if next == "" {
		return nil, nil
	}
	list, err := digest(query, next)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(token{After: next, List: list})
	if err != nil {
		return nil, fault.New(fault.Bug, "awsapi: write page token", "%w", err)
	}
	return new(base64.RawURLEncoding.EncodeToString(raw)), nil
}

func digest(query any, after string) ([]byte, error) {
	b, err := json.Marshal([]any{query, after})
	if err != nil {
		return nil, fault.New(fault.Bug, "awsapi: digest query", "%w", err)
	}
	sum := sha256.Sum256(b)
	return sum[:12], nil
}
