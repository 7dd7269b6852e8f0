package journal

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/understudy-dr/understudy/internal/encryption"
)

// testKeys wraps the data keys of all journals of the tests.
var testKeys *encryption.KeyFile

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "understudy-journal-")
	if err == nil {
		testKeys, err = encryption.OpenKeyFile(filepath.Join(dir, "keys.json"))
	}
	if err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}
