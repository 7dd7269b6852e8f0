package pki

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/vfs"
)

// As crypto/tls does with keys of its own: a key seals for a day, and opens what it sealed for a week.
const (
	ticketRotation = 24 * time.Hour
	ticketLifetime = 7 * ticketRotation
	ticketLook     = time.Hour // between two looks whether it is time
)

// Tickets are the keys of session tickets. They outlive the process, so that agents resume their sessions after a restart
// of the server, when all of them come at once. Whoever has them can pass for any agent until they are old: they are as
// secret as the authority's key. What a ticket holds is judged anew when it is shown.
//
// The file, format 1, is {"format": 1, "sealed": base64}: the installation's sealing key over a JSON list of
// {"created": time, "key": base64 of 32 bytes}, newest first. It is replaced as a whole. A file that is lost, damaged or sealed
// by another key costs full handshakes and no more, so new keys take its place.
type Tickets struct {
	path string
	seal Sealer
	log  *slog.Logger

	mu     sync.Mutex
	ring   []ticketKey // newest first, never empty
	stored bool        // the file has them
	ports  map[string]*tls.Config
}

// Sealer seals secrets with a key of the installation. A secret opens only as what it was sealed for.
type Sealer interface {
	Seal(what string, secret []byte) []byte
	Unseal(what string, sealed []byte) ([]byte, error)
}

type ticketKey struct {
	Created time.Time `json:"created"`
	Key     []byte    `json:"key"`
}

type ticketFile struct {
	Format int    `json:"format"`
	Sealed []byte `json:"sealed"`
}

const (
	ticketFormat   = 1
	ticketKeyBytes = 32
	maxTicketFile  = 64 << 10
	ticketSeal     = "tls session tickets"
)

// OpenTickets reads the keys at path, and makes new ones where there are none that are good.
func OpenTickets(path string, seal Sealer, log *slog.Logger) (*Tickets, error) {
	t := &Tickets{path: path, seal: seal, log: log, ports: map[string]*tls.Config{}}
	ring, err := t.load()
	if err != nil && !fault.Is(err, fault.NotFound) {
		log.Warn("session tickets of before will not be known: agents do full handshakes once", "error", err)
	}
	t.ring, t.stored = ring, len(ring) > 0
	return t, t.turn(time.Now())
}

// Serve makes a port seal its tickets with these keys. Ports do not know each other's tickets. Copies of the configuration
// follow the keys, too.
func (t *Tickets) Serve(port string, c *tls.Config) {
	keeper := &tls.Config{}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ports[port] = keeper
	t.equip(port, keeper)
	c.WrapSession, c.UnwrapSession = keeper.EncryptTicket, keeper.DecryptTicket
}

// Run turns the keys over until ctx ends.
func (t *Tickets) Run(ctx context.Context) error {
	tick := time.NewTicker(ticketLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if err := t.turn(now); err != nil {
				t.log.Warn("session ticket keys are not stored: a restart would forget sessions", "error", err)
			}
		}
	}
}

// turn drops the keys that are too old, makes a new one when the newest has served its day, and stores what has changed.
func (t *Tickets) turn(now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	ring := make([]ticketKey, 0, len(t.ring)+1)
	for _, k := range t.ring { // one of the future, by a clock that was wrong, would never get old
		if age := now.Sub(k.Created); age >= 0 && age < ticketLifetime {
			ring = append(ring, k)
		}
	}
	if len(ring) == 0 || now.Sub(ring[0].Created) >= ticketRotation {
		fresh := ticketKey{Created: now.UTC().Truncate(time.Second), Key: make([]byte, ticketKeyBytes)}
		_, _ = rand.Read(fresh.Key) // never fails, says its documentation
		ring = append([]ticketKey{fresh}, ring...)
		t.stored = false
	}
	t.stored = t.stored && len(ring) == len(t.ring)
	t.ring = ring
	for port, keeper := range t.ports {
		t.equip(port, keeper)
	}
	if t.stored {
		return nil
	}
	err := t.store()
	t.stored = err == nil
	return err
}

// equip hands a port its keys. The caller holds t.mu.
func (t *Tickets) equip(port string, keeper *tls.Config) {
	keys := make([][ticketKeyBytes]byte, len(t.ring))
	for i, k := range t.ring {
		own, _ := hkdf.Key(sha256.New, k.Key, nil, ticketSeal+" "+port, ticketKeyBytes) // fails for far longer keys only
		copy(keys[i][:], own)
	}
	keeper.SetSessionTicketKeys(keys)
}

func (t *Tickets) load() ([]ticketKey, error) {
	const op = "pki: read ticket keys"
	body, err := vfs.ReadFile(vfs.OS, t.path, maxTicketFile)
	if err != nil {
		return nil, vfs.Fault(op, err)
	}
	var file ticketFile
	if err := json.Unmarshal(body, &file); err != nil {
		return nil, fault.New(fault.Corruption, op, "%s: %w", t.path, err)
	}
	if file.Format != ticketFormat {
		return nil, fault.New(fault.Unsupported, op, "%s has format %d", t.path, file.Format)
	}
	plain, err := t.seal.Unseal(ticketSeal, file.Sealed)
	if err != nil {
		return nil, fault.Wrap(op, err)
	}
	var ring []ticketKey
	if err := json.Unmarshal(plain, &ring); err != nil {
		return nil, fault.New(fault.Corruption, op, "%s: %w", t.path, err)
	}
	for _, k := range ring {
		if len(k.Key) != ticketKeyBytes {
			return nil, fault.New(fault.Corruption, op, "%s has a key of %d bytes", t.path, len(k.Key))
		}
	}
	return ring, nil
}

// store replaces the file. The caller holds t.mu.
func (t *Tickets) store() error {
	const op = "pki: write ticket keys"
	plain, err := json.Marshal(t.ring)
	if err != nil {
		return fault.New(fault.Bug, op, "%w", err)
	}
	body, err := json.Marshal(ticketFile{Format: ticketFormat, Sealed: t.seal.Seal(ticketSeal, plain)})
	if err != nil {
		return fault.New(fault.Bug, op, "%w", err)
	}
	return replace(t.path, body, 0o600)
}
