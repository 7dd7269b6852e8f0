package dir

import "sync"

/*
The content of a layer that a reader wants lies in stretches of some MiB, with older versions between them, and an NBD client has many
reads under way. The system's own read-ahead goes by the device's setting, of up to 8 MiB, reads on into what nobody wants, and takes several
readers of a file for none that goes on. So it is told not to guess (vfs.AtRandom), and what is read ahead is little and decided here.
*/
const (
	aheadBytes = 1 << 20
	aheadGap   = 64 << 10 // what a reader passes over and still goes on
	maxStreams = 8        // of a file
)

// stream is a reader that goes through a file in order, as far as can be seen from its reads.
type stream struct {
	next  int64 // behind its last read; 0: none
	ahead int64 // up to here the system was told
}

// streams is the readers of one file.
type streams struct {
	mu   sync.Mutex
	all  [maxStreams]stream
	turn int
}

// note sees a read and says what to read ahead: nothing, unless it goes on where one before it ended.
func (s *streams) note(off, n int64) (from, length int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := off + n
	for i := range s.all {
		r := &s.all[i]
		if r.next == 0 || off < r.next || off-r.next > aheadGap {
			continue
		}
		r.next, r.ahead = end, max(r.ahead, end)
		if r.ahead-end > aheadBytes/2 {
			return 0, 0
		}
		from, r.ahead = r.ahead, end+aheadBytes
		return from, r.ahead - from
	}
	s.all[s.turn] = stream{next: end}
	s.turn = (s.turn + 1) % maxStreams
	return 0, 0
}
