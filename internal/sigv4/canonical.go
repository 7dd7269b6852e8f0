package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// The SDK's signer writes what the SDKs sign. Other clients sign correctly too, in forms that it cannot
// write: with a Date header alone, or with headers that it leaves out. Those requests are written here. A
// test holds both ways against one another.

// leftOut are the headers that the SDK's signer never signs.
var leftOut = []string{"authorization", "user-agent", "x-amzn-trace-id", "expect", "transfer-encoding"}

// byHand reports whether the SDK's signer cannot write the request as the client signed it.
func (c *claim) byHand(r *http.Request) bool {
	return c.dateOnly || slices.ContainsFunc(c.signed, func(name string) bool {
		return slices.Contains(leftOut, name) || name == "content-length" && r.ContentLength <= 0
	})
}

// signature is what the client should have come to.
func signature(r *http.Request, c *claim, secret, payload string) string {
	scope := c.day + "/" + c.region + "/" + c.service + "/" + terminator
	request := sha256.Sum256([]byte(canonical(r, c, payload)))
	key := []byte("AWS4" + secret)
	for _, part := range []string{c.day, c.region, c.service, terminator} {
		key = mac(key, part)
	}
	text := algorithm + "\n" + c.date.UTC().Format(dateFormat) + "\n" + scope + "\n" + hex.EncodeToString(request[:])
	return hex.EncodeToString(mac(key, text))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text)) // never fails, says its documentation
	return h.Sum(nil)
}

// canonical is the request as it is signed: line by line, every part in one form only.
func canonical(r *http.Request, c *claim, payload string) string {
	var b strings.Builder
	b.WriteString(r.Method + "\n" + escape(r.URL.EscapedPath(), "/") + "\n" + canonicalQuery(r.URL.Query()) + "\n")
	for _, name := range c.signed {
		b.WriteString(name + ":" + canonicalHeader(r, name) + "\n")
	}
	b.WriteString("\n" + strings.Join(c.signed, ";") + "\n" + payload)
	return b.String()
}

func canonicalHeader(r *http.Request, name string) string {
	switch name {
	case "host":
		return bareHost(r)
	case "content-length":
		return strconv.FormatInt(max(r.ContentLength, 0), 10)
	case "transfer-encoding":
		return strings.Join(r.TransferEncoding, ",") // the HTTP server has taken it out of the headers
	}
	var values []string
	for _, v := range r.Header.Values(name) {
		values = append(values, strings.TrimSpace(strings.Join(strings.FieldsFunc(v, func(c rune) bool { return c == ' ' }), " ")))
	}
	return strings.Join(values, ",")
}

// bareHost is the host without its scheme's own port, which clients may leave out.
func bareHost(r *http.Request) string {
	port := ":80"
	if r.TLS != nil {
		port = ":443"
	}
	return strings.TrimSuffix(r.Host, port)
}

func canonicalQuery(q url.Values) string {
	var pairs [][2]string
	for key, values := range q {
		for _, v := range values {
			pairs = append(pairs, [2]string{escape(key, ""), escape(v, "")})
		}
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	var out []string
	for _, p := range pairs {
		out = append(out, p[0]+"="+p[1])
	}
	return strings.Join(out, "&")
}

const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

// escape writes every byte but the unreserved ones, and those of also, as %XX.
func escape(s, also string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if strings.IndexByte(unreserved, c) >= 0 || strings.IndexByte(also, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteString(strings.ToUpper(hex.EncodeToString([]byte{c})))
	}
	return b.String()
}

// normalised is r with the dots and empty segments of its path resolved, as the standard has it; nil when
// there are none. The SDKs for Go and JavaScript sign the path as it is, those for Python and Java the resolved one.
func normalised(r *http.Request) *http.Request {
	path := r.URL.EscapedPath()
	var kept []string
	for _, segment := range strings.Split(path, "/") {
		switch segment {
		case "", ".":
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept = append(kept, segment)
		}
	}
	out := "/" + strings.Join(kept, "/")
	if strings.HasSuffix(path, "/") && len(kept) > 0 {
		out += "/"
	}
	if out == path {
		return nil
	}
	u := *r.URL
	var err error
	if u.Path, err = url.PathUnescape(out); err != nil {
		return nil
	}
	u.RawPath = out
	bare := *r
	bare.URL = &u
	return &bare
}
