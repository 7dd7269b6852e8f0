// Package audit keeps the audit log: a record of every authenticated call, in CloudTrail's shape, in a file that is only ever
// appended to. internal/awsapi makes the records, internal/app/serve runs the log; nobody else imports it.
package audit

import (
	"encoding/json"
	"strings"
	"time"
)

// Record is one call, as CloudTrail tells it.
type Record struct {
	EventVersion       string          `json:"eventVersion"`
	UserIdentity       Identity        `json:"userIdentity"`
	EventTime          string          `json:"eventTime"`
	EventSource        string          `json:"eventSource"`
	EventName          string          `json:"eventName"`
	AWSRegion          string          `json:"awsRegion"`
	SourceIPAddress    string          `json:"sourceIPAddress"`
	UserAgent          string          `json:"userAgent"`
	ErrorCode          string          `json:"errorCode,omitempty"`
	ErrorMessage       string          `json:"errorMessage,omitempty"`
	RequestParameters  json.RawMessage `json:"requestParameters"` // null when there are none
	ResponseElements   json.RawMessage `json:"responseElements"`  // null for calls that only read
	AdditionalData     map[string]any  `json:"additionalEventData,omitempty"`
	RequestID          string          `json:"requestID"`
	EventID            string          `json:"eventID"`
	ReadOnly           bool            `json:"readOnly"`
	EventType          string          `json:"eventType"`
	ManagementEvent    bool            `json:"managementEvent"`
	RecipientAccountID string          `json:"recipientAccountId"`
	EventCategory      string          `json:"eventCategory"`
	TLSDetails         *TLS            `json:"tlsDetails,omitempty"`
}

// Identity is who called.
type Identity struct {
	Type           string   `json:"type"` // IAMUser or AssumedRole
	PrincipalID    string   `json:"principalId,omitempty"`
	ARN            string   `json:"arn"`
	AccountID      string   `json:"accountId"`
	AccessKeyID    string   `json:"accessKeyId"`
	UserName       string   `json:"userName,omitempty"`
	SessionContext *Session `json:"sessionContext,omitempty"`
}

// Session is what temporary credentials were given for.
type Session struct {
	SessionIssuer Issuer `json:"sessionIssuer"`
}

// Issuer is the role that a session has taken on.
type Issuer struct {
	Type      string `json:"type"`
	ARN       string `json:"arn"`
	AccountID string `json:"accountId"`
	UserName  string `json:"userName"`
}

// TLS is how the connection was protected.
type TLS struct {
	Version string `json:"tlsVersion"`
	Suite   string `json:"cipherSuite"`
	Host    string `json:"clientProvidedHostHeader"`
}

// The constants of every record.
const (
	eventVersion = "1.11"
	eventType    = "AwsApiCall"
	category     = "Management"
)

// Time is an instant as records have it.
func Time(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// Source is the eventSource of a service's signing name.
func Source(service string) string { return service + ".amazonaws.com" }

// ReadOnly tells by its name whether an operation only looks.
func ReadOnly(operation string) bool {
	for _, verb := range []string{"Describe", "Get", "List", "Read"} {
		if strings.HasPrefix(operation, verb) {
			return true
		}
	}
	return false
}

// maxElement bounds requestParameters and responseElements; CloudTrail leaves out what is larger, too.
const maxElement = 100 << 10

// encode is the record's line.
func (r Record) encode() ([]byte, error) {
	r.EventVersion, r.EventType, r.EventCategory, r.ManagementEvent = eventVersion, eventType, category, true
	omitted := []string{}
	for name, element := range map[string]*json.RawMessage{"requestParameters": &r.RequestParameters, "responseElements": &r.ResponseElements} {
		if len(*element) > maxElement {
			*element = nil
			omitted = append(omitted, name)
		}
	}
	if len(omitted) > 0 {
		data := map[string]any{"omittedForSize": omitted}
		for k, v := range r.AdditionalData {
			data[k] = v
		}
		r.AdditionalData = data
	}
	line, err := json.Marshal(r)
	return append(line, '\n'), err
}
