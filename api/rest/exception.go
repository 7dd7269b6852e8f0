package rest

import (
	"net/http"
	"time"
)

// Header names that every answer or every error carries.
const (
	HeaderErrorType = "X-Amzn-Errortype"
	HeaderRequestID = "X-Amzn-Requestid"
)

// Exception is an error in the form a service answers with. The generated packages have one type for
// each modelled exception; Plain is for those that no model lists.
type Exception interface {
	error
	ErrorCode() string
	HTTPStatus() int
	ErrorShape() *Shape
}

// Detail is what an exception can say, whichever service and type it becomes.
type Detail struct {
	Message      string
	ResourceID   string
	ResourceType string
	Reason       string  // of a ValidationException
	Fields       []Field // of a ValidationException
	QuotaCode    string
	RetryAfter   time.Duration
}

// Plain is an exception outside the models: authentication, routing, what this version does not offer.
type Plain struct {
	Message string
	code    string
	status  int
}

var plainShape = &Shape{Name: "Plain", Members: []Member{
	{Name: "message", Shape: &Shape{Name: "Message", Kind: String}, Required: true},
}}

// NewPlain makes an exception that no model lists.
func NewPlain(code string, status int, message string) *Plain {
	return &Plain{Message: message, code: code, status: status}
}

func (e *Plain) Error() string { return ErrorText(e.code, e.Message) }

// ErrorCode is the code that clients see.
func (e *Plain) ErrorCode() string { return e.code }

// HTTPStatus is the answer's status.
func (e *Plain) HTTPStatus() int { return e.status }

// ErrorShape describes the body.
func (e *Plain) ErrorShape() *Shape { return plainShape }

// Unavailable is the answer of an operation that this version does not offer.
func Unavailable(operation string) error {
	return NewPlain("NotImplementedException", http.StatusNotImplemented,
		operation+" is not available in this version of Understudy")
}

// ErrorText is the text of an exception as a Go error.
func ErrorText(code, message string) string {
	if message == "" {
		return code
	}
	return code + ": " + message
}

// WriteError answers with an exception.
func WriteError(w http.ResponseWriter, e Exception) error {
	h := w.Header()
	body := encode(e.ErrorShape(), e, h)
	h.Set(HeaderErrorType, e.ErrorCode())
	return write(w, e.HTTPStatus(), body)
}

// WriteResult answers with an operation's output.
func WriteResult(w http.ResponseWriter, op *Operation, out any) error {
	if op.Output == nil || op.Status == http.StatusNoContent {
		w.WriteHeader(op.Status)
		return nil
	}
	return write(w, op.Status, encode(op.Output, out, w.Header()))
}

func write(w http.ResponseWriter, status int, body []byte) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, err := w.Write(body)
	return err
}
