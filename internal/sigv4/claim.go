package sigv4

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	dateFormat = "20060102T150405Z"
	dayFormat  = "20060102"

	// maxExpires is the longest life of a presigned request.
	maxExpires = 7 * 24 * time.Hour
)

// claim is what a request says about its own signature, read and well-formed, not yet believed.
type claim struct {
	accessKeyID string
	day         string // of the credential scope
	region      string
	service     string
	signed      []string // names of the signed headers, lower case, sorted
	signature   string   // 64 lower-case hex digits
	date        time.Time
	expires     time.Duration // of a presigned request, else 0
	token       string
	payload     string // declared payload hash, or ""
	presigned   bool
	dateOnly    bool // dated by Date, which must be signed, and not by X-Amz-Date
}

// readClaim reads the header or the query form. Exactly one of them must be there.
func readClaim(r *http.Request) (*claim, error) {
	headers := r.Header.Values("Authorization")
	query := r.URL.Query()
	inQuery := query.Has("X-Amz-Signature") || query.Has("X-Amz-Algorithm")
	switch {
	case len(headers) == 0 && !inQuery:
		return nil, missing()
	case len(headers) > 1 || len(headers) == 1 && inQuery:
		return nil, incomplete("Request must carry exactly one signature.")
	case inQuery:
		return queryClaim(query)
	}
	c, err := parseAuthorization(headers[0])
	if err != nil {
		return nil, err
	}
	if err := c.readDate(r.Header); err != nil {
		return nil, err
	}
	c.token = r.Header.Get("X-Amz-Security-Token")
	c.payload = r.Header.Get("X-Amz-Content-Sha256")
	return c, c.check()
}

// parseAuthorization reads an Authorization header: the algorithm and three parameters in any order.
func parseAuthorization(header string) (*claim, error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(header), " ")
	if name != algorithm {
		return nil, incomplete("Unsupported AWS 'algorithm': only " + algorithm + " is accepted.")
	}
	params := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if _, twice := params[key]; !ok || twice {
			return nil, incomplete("Authorization header holds a malformed or repeated parameter.")
		}
		params[key] = value
	}
	for _, key := range []string{"Credential", "SignedHeaders", "Signature"} {
		if params[key] == "" {
			return nil, incomplete("Authorization header requires '" + key + "' parameter.")
		}
	}
	c := &claim{signature: params["Signature"]}
	if err := c.parseCredential(params["Credential"]); err != nil {
		return nil, err
	}
	return c, c.parseSignedHeaders(params["SignedHeaders"])
}

// queryClaim reads the query form of a presigned request.
func queryClaim(q url.Values) (*claim, error) {
	for _, key := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Date", "X-Amz-Expires"} {
		if len(q[key]) != 1 || q.Get(key) == "" {
			return nil, incomplete("Query string requires '" + key + "' exactly once.")
		}
	}
	if q.Get("X-Amz-Algorithm") != algorithm {
		return nil, incomplete("Unsupported AWS 'algorithm': only " + algorithm + " is accepted.")
	}
	c := &claim{
		signature: q.Get("X-Amz-Signature"),
		token:     q.Get("X-Amz-Security-Token"),
		payload:   q.Get("X-Amz-Content-Sha256"),
		presigned: true,
	}
	seconds, err := strconv.ParseUint(q.Get("X-Amz-Expires"), 10, 31)
	if c.expires = time.Duration(seconds) * time.Second; err != nil || seconds == 0 || c.expires > maxExpires {
		return nil, incomplete("X-Amz-Expires must be between 1 and 604800 seconds.")
	}
	if c.date, err = parseDate(q["X-Amz-Date"]); err != nil {
		return nil, err
	}
	if err := c.parseCredential(q.Get("X-Amz-Credential")); err != nil {
		return nil, err
	}
	if err := c.parseSignedHeaders(q.Get("X-Amz-SignedHeaders")); err != nil {
		return nil, err
	}
	return c, c.check()
}

// readDate reads X-Amz-Date or, where there is none, Date.
func (c *claim) readDate(h http.Header) (err error) {
	if dates := h.Values("Date"); len(h.Values("X-Amz-Date")) == 0 && len(dates) == 1 {
		c.dateOnly = true
		if c.date, err = http.ParseTime(dates[0]); err != nil {
			c.date, err = parseDate(dates)
		}
		return err
	}
	c.date, err = parseDate(h.Values("X-Amz-Date"))
	return err
}

func parseDate(values []string) (time.Time, error) {
	if len(values) != 1 {
		return time.Time{}, incomplete("Request requires exactly one 'X-Amz-Date'.")
	}
	t, err := time.Parse(dateFormat, values[0])
	if err != nil {
		return time.Time{}, incomplete("Date must be in ISO-8601 'basic format'.")
	}
	return t, nil
}

func (c *claim) parseCredential(s string) error {
	parts := strings.Split(s, "/")
	if len(parts) != 5 || slices.Contains(parts, "") {
		return incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")
	}
	if parts[4] != terminator {
		return incomplete("Credential should be scoped with a valid terminator: '" + terminator + "'.")
	}
	if _, err := time.Parse(dayFormat, parts[1]); err != nil {
		return incomplete("Date in Credential scope must be YYYYMMDD.")
	}
	c.accessKeyID, c.day, c.region, c.service = parts[0], parts[1], parts[2], parts[3]
	return nil
}

func (c *claim) parseSignedHeaders(s string) error {
	c.signed = strings.Split(s, ";")
	if !slices.IsSorted(c.signed) || strings.ToLower(s) != s {
		return incomplete("SignedHeaders must be lower case and sorted.")
	}
	for i, name := range c.signed {
		if name == "" || i > 0 && name == c.signed[i-1] {
			return incomplete("SignedHeaders must not hold empty or repeated names.")
		}
	}
	return nil
}

// check holds the parts against one another.
func (c *claim) check() error {
	if len(c.signature) != 64 || strings.Trim(c.signature, "0123456789abcdef") != "" {
		return mismatch()
	}
	if !slices.Contains(c.signed, "host") {
		return invalid("'Host' must be a 'SignedHeader' in the AWS Authorization.")
	}
	if c.dateOnly && !slices.Contains(c.signed, "date") {
		return invalid("'Date' must be a 'SignedHeader' in the AWS Authorization when there is no 'X-Amz-Date'.")
	}
	if day := c.date.UTC().Format(dayFormat); day != c.day {
		return invalid("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '" + c.day + "' != '" + day + "'.")
	}
	return nil
}

// ClaimedService is the service that a request says it is signed for, believed or not: an error should be
// told in a form that the client reads. It is "" where nothing can be read.
func ClaimedService(r *http.Request) string {
	credential := r.URL.Query().Get("X-Amz-Credential")
	if _, after, ok := strings.Cut(r.Header.Get("Authorization"), "Credential="); ok {
		credential, _, _ = strings.Cut(after, ",")
	}
	parts := strings.Split(strings.TrimSpace(credential), "/")
	if len(parts) != 5 {
		return ""
	}
	return parts[3]
}
