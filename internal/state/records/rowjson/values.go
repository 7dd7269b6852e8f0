package rowjson

import (
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"
)

// quoted is a string that was written as it is.
func (t *text) quoted() (string, bool) {
	if !t.next('"') {
		return "", false
	}
	s := t.rest()
	ascii := true
	for i := range len(s) {
		switch b := s[i]; {
		case b == '"':
			t.at += i + 1
			return s[:i], ascii || utf8.ValidString(s[:i])
		case b == '\\' || b < ' ':
			return "", false
		case b >= utf8.RuneSelf:
			ascii = false
		}
	}
	return "", false
}

func readString(t *text, v reflect.Value) bool {
	s, ok := t.quoted()
	if ok {
		v.SetString(s)
	}
	return ok
}

func readBool(t *text, v reflect.Value) bool {
	if t.skip("true") {
		v.SetBool(true)
		return true
	}
	return t.skip("false")
}

// number is the digits of a whole one.
func (t *text) number() (string, bool) {
	s := t.rest()
	n := 0
	if n < len(s) && s[n] == '-' {
		n++
	}
	first := n
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	if n == first || s[first] == '0' && n > first+1 {
		return "", false
	}
	t.at += n // a fraction or an exponent is not what may follow
	return s[:n], true
}

func readInt(t *text, v reflect.Value) bool {
	s, ok := t.number()
	if !ok {
		return false
	}
	n, err := strconv.ParseInt(s, 10, v.Type().Bits())
	v.SetInt(n)
	return err == nil
}

func readUint(t *text, v reflect.Value) bool {
	s, ok := t.number()
	if !ok {
		return false
	}
	n, err := strconv.ParseUint(s, 10, v.Type().Bits())
	v.SetUint(n)
	return err == nil
}

func readStrings(t *text, v reflect.Value) bool {
	out := []string{}
	if !t.next('[') {
		return false
	}
	for more := !t.next(']'); more; {
		s, ok := t.quoted()
		if !ok {
			return false
		}
		out = append(out, s)
		if more = t.next(','); !more && !t.next(']') {
			return false
		}
	}
	*v.Addr().Interface().(*[]string) = out
	return true
}

func readMap(t *text, v reflect.Value) bool {
	out := map[string]string{}
	if !t.next('{') {
		return false
	}
	for more := !t.next('}'); more; {
		key, ok := t.quoted()
		if !ok || !t.next(':') {
			return false
		}
		if out[key], ok = t.quoted(); !ok {
			return false
		}
		if more = t.next(','); !more && !t.next('}') {
			return false
		}
	}
	*v.Addr().Interface().(*map[string]string) = out
	return true
}

// readTime reads what time.Time writes of an instant in UTC.
func readTime(t *text, v reflect.Value) bool {
	s, ok := t.quoted()
	if !ok || len(s) < len("2006-01-02T15:04:05Z") || s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' || s[len(s)-1] != 'Z' {
		return false
	}
	year, month, day := digits(s[:4]), digits(s[5:7]), digits(s[8:10])
	hour, minute, second := digits(s[11:13]), digits(s[14:16]), digits(s[17:19])
	nanos := 0
	if fraction := s[19 : len(s)-1]; fraction != "" {
		if fraction[0] != '.' || len(fraction) < 2 || len(fraction) > 10 {
			return false
		}
		nanos = digits(fraction[1:])
		for range 10 - len(fraction) {
			nanos *= 10
		}
	}
	if year < 0 || month < 1 || day < 1 || hour < 0 || minute < 0 || second < 0 || nanos < 0 || hour > 23 || minute > 59 || second > 59 {
		return false
	}
	at := time.Date(year, time.Month(month), day, hour, minute, second, nanos, time.UTC)
	if at.Month() != time.Month(month) || at.Day() != day { // there is no such day
		return false
	}
	*v.Addr().Interface().(*time.Time) = at
	return true
}

// digits is a number of few digits; negative when there is anything else.
func digits(s string) (n int) {
	for i := range len(s) {
		d := s[i] - '0'
		if d > 9 {
			return -1 << 40
		}
		n = 10*n + int(d)
	}
	return n
}
