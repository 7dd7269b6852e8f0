package journal

import "github.com/understudy-dr/understudy/internal/vfs"

// WrappedBy names the wrapping key that the data key of the journal in dir is wrapped with. The journal may be open; it is
// a NotFound when there is none, or none that is enciphered.
func WrappedBy(fsys vfs.FS, dir string) (keyID string, err error) {
	w, err := readKey(fsys, dir)
	return w.KeyID, err
}
