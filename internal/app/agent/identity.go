package agent

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/understudy-dr/understudy/internal/fault"
)

// identity is what the agent keeps in its state directory: who it is to the service, and the key that proves it.
type identity struct {
	Service  string   `json:"service"`
	ServerID string   `json:"sourceServerId"`
	ARN      string   `json:"arn"`
	Endpoint string   `json:"endpoint"`
	Devices  []string `json:"devices"`
	Bytes    []uint64 `json:"bytes"` // of the devices, as registered

	key, certificate, ca []byte // PEM
}

const (
	identityFile = "identity.json"
	keyFile      = "agent.key"
	certFile     = "agent.pem"
	caFile       = "ca.pem"
)

// loadIdentity is nil without an error when the directory holds none.
func loadIdentity(dir string) (*identity, error) {
	b, err := os.ReadFile(filepath.Join(dir, identityFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "agent: state directory", "%w", err)
	}
	id := &identity{}
	if err := json.Unmarshal(b, id); err != nil {
		return nil, fault.New(fault.Corruption, "agent: "+identityFile, "%w", err).
			WithHint("remove the state directory and run the agent again: it registers as the same source server")
	}
	for name, dst := range map[string]*[]byte{keyFile: &id.key, certFile: &id.certificate, caFile: &id.ca} {
		if *dst, err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return nil, fault.New(fault.Corruption, "agent: state directory", "%w", err).
				WithHint("remove the state directory and run the agent again: it registers as the same source server")
		}
	}
	return id, nil
}

// save writes identity.json last: with it the identity is whole. An older one goes first: its name must not stand over
// a new key with an old certificate.
func (id *identity) save(dir string) error {
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fault.New(fault.Bug, "agent: identity", "%w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.New(fault.Invalid, "agent: state directory", "%w", err)
	}
	if err := os.Remove(filepath.Join(dir, identityFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.New(fault.Unknown, "agent: state directory", "%w", err)
	}
	files := []struct {
		name    string
		content []byte
	}{{keyFile, id.key}, {certFile, id.certificate}, {caFile, id.ca}, {identityFile, append(b, '\n')}}
	for _, f := range files {
		if err := replaceFile(filepath.Join(dir, f.name), f.content); err != nil {
			return err
		}
	}
	return nil
}

// forgetIdentity removes it, identity.json first.
func forgetIdentity(dir string) error {
	for _, name := range []string{identityFile, knownFile, statusFile, metricsFile, proofsFile, keyFile, certFile, caFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fault.New(fault.Unknown, "agent: forget identity", "%w", err)
		}
	}
	return nil
}

// replaceFile writes a private file so that a crash leaves the old or the new one.
func replaceFile(path string, content []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fault.New(fault.Unknown, "agent: state directory", "%w", err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return fault.New(fault.Unknown, "agent: state directory", "%w", err)
	}
	return nil
}
