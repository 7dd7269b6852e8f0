package events

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
)

// cloudEvent is an event in CloudEvents' structured form. partitionkey and sequence are documented extensions: events of one
// partition key come in the order of their sequence.
type cloudEvent struct {
	SpecVersion     string   `json:"specversion"`
	ID              string   `json:"id"`
	Source          string   `json:"source"`
	Type            string   `json:"type"`
	Subject         string   `json:"subject"`
	Time            string   `json:"time"`
	DataContentType string   `json:"datacontenttype"`
	PartitionKey    string   `json:"partitionkey"`
	Sequence        string   `json:"sequence"`
	Data            Envelope `json:"data"`
}

func cloudEventOf(e state.Event) cloudEvent {
	return cloudEvent{
		SpecVersion: "1.0", ID: e.ID, Source: e.Source, Type: typeOf(e), Subject: strings.Join(e.Resources, ","),
		Time: e.At.UTC().Format(time.RFC3339Nano), DataContentType: "application/json",
		PartitionKey: e.Subject, Sequence: fmt.Sprintf("%020d", e.Seq), Data: EnvelopeOf(e),
	}
}

// typeOf is "aws.drs.pit-snapshot-taken" for "DRS PIT Snapshot Taken": a type has no blanks.
func typeOf(e state.Event) string {
	_, kind, _ := strings.Cut(e.DetailType, " ")
	return e.Source + "." + strings.ReplaceAll(strings.ToLower(kind), " ", "-")
}

// request is the delivery of an event to a webhook, signed.
func request(ctx context.Context, w state.Webhook, secret []byte, e state.Event, now time.Time) (*http.Request, error) {
	const op = "events: encode"
	c := cloudEventOf(e)
	var content any = c
	if w.Binary {
		content = c.Data
	}
	body, err := json.Marshal(content)
	if err != nil {
		return nil, fault.New(fault.Bug, op, "%w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fault.New(fault.Invalid, op, "%w", err)
	}
	r.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	if w.Binary {
		r.Header.Set("Content-Type", c.DataContentType)
		for name, value := range map[string]string{
			"specversion": c.SpecVersion, "id": c.ID, "source": c.Source, "type": c.Type, "subject": c.Subject, "time": c.Time,
			"partitionkey": c.PartitionKey, "sequence": c.Sequence,
		} {
			r.Header.Set("ce-"+name, value)
		}
	}
	r.Header.Set("User-Agent", "understudy")
	sign(r.Header, secret, e.ID, now, body)
	return r, nil
}

// sign adds the headers of the Standard Webhooks specification: who has the secret can tell that the body is ours, and by the
// time and the id that it is not a repetition.
func sign(h http.Header, secret []byte, id string, now time.Time, body []byte) {
	at := strconv.FormatInt(now.Unix(), 10)
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", at)
	h.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac(secret, []byte(id+"."+at+"."), body)))
}

func mac(key []byte, parts ...[]byte) []byte {
	m := hmac.New(sha256.New, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}
