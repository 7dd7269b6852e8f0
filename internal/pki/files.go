package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/understudy-dr/understudy/internal/fault"
)

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fault.New(fault.Bug, "pki: encode key", "%w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func loadKey(path string) (*ecdsa.PrivateKey, error) {
	const op = "pki: load key"
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.New(fault.Unknown, op, "%w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fault.New(fault.Corruption, op, "%s: no PEM data", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fault.New(fault.Corruption, op, "%s: %w", path, err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fault.New(fault.Corruption, op, "%s: not an ECDSA key", path)
	}
	return ec, nil
}

// load reads a certificate and its key, and returns the certificate's PEM too.
func load(certPath, keyPath string) (tls.Certificate, []byte, error) {
	const op = "pki: load"
	cert, err := os.ReadFile(certPath)
	if err != nil {
		return tls.Certificate{}, nil, fault.New(fault.Unknown, op, "%w", err)
	}
	key, err := os.ReadFile(keyPath)
	if err != nil {
		return tls.Certificate{}, nil, fault.New(fault.Unknown, op, "%w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, nil, fault.New(fault.Corruption, op, "%s: %w", certPath, err)
	}
	return pair, certPEM(pair.Certificate[0]), nil
}

// replace puts a new file in place of path: written aside, synced, renamed, directory synced.
func replace(path string, data []byte, mode fs.FileMode) error {
	const op = "pki: write"
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fault.New(fault.Unknown, op, "%w", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fault.New(fault.Unknown, op, "%w", errors.Join(err, os.Remove(f.Name())))
	}
	d, err := os.Open(dir)
	if err != nil {
		return fault.New(fault.Unknown, op, "%w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fault.New(fault.Unknown, op, "%w", err)
	}
	return nil
}
