package transfer

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/understudy-dr/understudy/internal/state"
)

// Columns of the file, as MGN names them. Those that end in a colon go on with a tag's key or a number. A cell without
// text says nothing; a column whose name does not begin with mgn: is the user's own.
const (
	colAccount  = "mgn:account-id"
	colRegion   = "mgn:region"
	colWave     = "mgn:wave:"
	colApp      = "mgn:app:"
	colServerID = "mgn:server:id"
	colUserID   = "mgn:server:user-provided-id"
	colPlatform = "mgn:server:platform"
	colFQDN     = "mgn:server:fqdn-for-action-framework"
	colTags     = "mgn:server:tag:"
	colLaunch   = "mgn:launch:"

	partID          = "id"
	partName        = "name"
	partDescription = "description"
	partTag         = "tag:"
)

// Limits of a file.
const (
	maxFile = 32 << 20
	maxRows = 100_000
)

// group is what a row says of a wave or an application.
type group struct {
	id, name    string
	description *string
	tags        map[string]string
}

func (g *group) named() bool { return g.id != "" || g.name != "" }

// row is one row of the file.
type row struct {
	number int64
	wave   group
	app    group
	server struct {
		id, userID, platform, fqdn string
		tags                       map[string]string
	}
	launch launch
}

func (r *row) namesServer() bool { return r.server.id != "" || r.server.userID != "" }

// set takes one cell. What it returns is wrong with it.
func (r *row) set(s *sheet, column, value string) error {
	switch column {
	case colAccount:
		return mustBe(value, s.scope.Account, "the account that imports")
	case colRegion:
		return mustBe(value, s.region, "this installation's region")
	case colServerID:
		r.server.id = value
	case colUserID:
		r.server.userID = value
		return checkName(value)
	case colPlatform:
		r.server.platform = value
		return oneOf(value, "linux", "windows")
	case colFQDN:
		r.server.fqdn = value
		return atMost(value, 256)
	default:
		return r.setPart(column, value)
	}
	return nil
}

func (r *row) setPart(column, value string) error {
	if key, ok := strings.CutPrefix(column, colTags); ok {
		return tag(&r.server.tags, key, value)
	}
	if part, ok := strings.CutPrefix(column, colWave); ok {
		return r.wave.set(part, value)
	}
	if part, ok := strings.CutPrefix(column, colApp); ok {
		return r.app.set(part, value)
	}
	if part, ok := strings.CutPrefix(column, colLaunch); ok {
		return r.launch.set(part, value)
	}
	return errUnknownColumn
}

var errUnknownColumn = errors.New("there is no such column")

func (g *group) set(part, value string) error {
	switch part {
	case partID:
		g.id = value
	case partName:
		g.name = value
		return checkName(value)
	case partDescription:
		g.description = &value
		return atMost(value, 600)
	default:
		key, ok := strings.CutPrefix(part, partTag)
		if !ok {
			return errUnknownColumn
		}
		return tag(&g.tags, key, value)
	}
	return nil
}

func tag(to *map[string]string, key, value string) error {
	if key == "" || utf8.RuneCountInString(key) > 256 {
		return errors.New("a tag's key has 1 to 256 characters")
	}
	if *to == nil {
		*to = map[string]string{}
	}
	(*to)[key] = value
	return atMost(value, 256)
}

var goodName = regexp.MustCompile(`^[^\s\x00]( *[^\s\x00])*$`)

func checkName(value string) error {
	if !goodName.MatchString(value) {
		return errors.New("must not have line breaks or tabs in it")
	}
	return atMost(value, 256)
}

func atMost(value string, characters int) error {
	if n := utf8.RuneCountInString(value); n > characters {
		return fmt.Errorf("has %d characters, at most %d are allowed", n, characters)
	}
	return nil
}

func oneOf(value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return fmt.Errorf("%q is not one of %s", value, strings.Join(allowed, ", "))
}

func mustBe(value, want, what string) error {
	if value != want {
		return fmt.Errorf("%q is not %s, %s", value, what, want)
	}
	return nil
}

// check is what is wrong with a row as a whole.
func (r *row) check() error {
	switch {
	case !r.wave.named() && (r.wave.description != nil || r.wave.tags != nil):
		return errors.New("mgn:wave:name or mgn:wave:id is needed with what the row says of a wave")
	case !r.app.named() && (r.app.description != nil || r.app.tags != nil):
		return errors.New("mgn:app:name or mgn:app:id is needed with what the row says of an application")
	case !r.namesServer() && (r.server.platform != "" || r.server.fqdn != "" || r.server.tags != nil || r.launch.said()):
		return errors.New("mgn:server:user-provided-id or mgn:server:id is needed with what the row says of a server")
	}
	return nil
}

// sheet reads a file for a scope.
type sheet struct {
	scope  state.Scope
	region string
	rows   []row
	faulty faulty
}

func (s *sheet) bad(number int64, format string, args ...any) {
	s.faulty.list = append(s.faulty.list, state.TransferError{At: time.Now().UTC(), Validation: true, Row: number,
		RawError: fmt.Sprintf(format, args...), AccountID: s.scope.Account})
}

// read takes a whole file. It goes on after an error to find the others.
func (s *sheet) read(content []byte) error {
	in := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(content, []byte("\uFEFF")))) // as spreadsheets begin theirs
	in.FieldsPerRecord = -1
	header, err := in.Read()
	if err != nil {
		s.bad(1, "the file has no header: %v", err)
		return &s.faulty
	}
	s.checkHeader(header)
	for number := int64(2); len(s.faulty.list) < maxErrors; number++ { // the header is row 1
		cells, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		switch {
		case err != nil:
			s.bad(number, "%v", err)
			return &s.faulty // what follows cannot be told apart
		case number > maxRows+1:
			s.bad(number, "the file has more than %d rows", maxRows)
			return &s.faulty
		case len(cells) > len(header):
			s.bad(number, "the row has %d cells, the header %d", len(cells), len(header))
			continue
		}
		s.readRow(number, header, cells)
	}
	if len(s.faulty.list) > 0 {
		return &s.faulty
	}
	return nil
}

func (s *sheet) checkHeader(header []string) {
	seen := map[string]bool{}
	for i, name := range header {
		name = strings.TrimSpace(name)
		header[i] = name
		if !strings.HasPrefix(name, "mgn:") {
			continue
		}
		if seen[name] {
			s.bad(1, "column %s is there twice", name)
		}
		seen[name] = true
		var probe row
		if err := probe.set(s, name, "x"); errors.Is(err, errUnknownColumn) {
			s.bad(1, "column %s: %v", name, err)
			header[i] = "" // said once
		}
	}
}

func (s *sheet) readRow(number int64, header, cells []string) {
	r := row{number: number}
	empty := true
	for i, cell := range cells {
		cell = strings.TrimSpace(cell)
		if cell == "" || !strings.HasPrefix(header[i], "mgn:") {
			continue
		}
		empty = false
		if err := r.set(s, header[i], cell); err != nil {
			s.bad(number, "%s: %v", header[i], err)
		}
	}
	if err := r.check(); err != nil {
		s.bad(number, "%v", err)
	}
	if !empty {
		s.rows = append(s.rows, r)
	}
}
