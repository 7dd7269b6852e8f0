package consistency

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
)

// The guard's descriptors. Those of the file systems come after them.
const (
	fdOrders  = 3
	fdReplies = 4
	fdTargets = 5

	maxTargets = 500
)

// Orders are single bytes. A closed pipe is the order to end: the agent is gone.
const (
	orderSync   = 's'
	orderFreeze = 'f'
	orderThaw   = 't'
)

// Replies are lines: a word, and for some a target's number or a time. All of them together fit a pipe, so that the guard
// never waits for its reader.
const (
	replyReady   = "ready"   // 1 if memory is locked
	replySynced  = "synced"  //
	replyTrying  = "trying"  // a target is about to be frozen
	replyRefused = "refused" // it was not; the error's number follows
	replyUndone  = "undone"  // it is thawed again
	replyFrozen  = "frozen"  // all are
	replyFailed  = "failed"  // and none is any more
	replyThawed  = "thawed"  // by order, all had been frozen until now; nanoseconds of the hold follow
	replyLost    = "lost"    // by order, but somebody else had thawed this one
	replyExpired = "expired" // there was nothing left to thaw: the deadline had passed
)

// guard is a process that freezes and always thaws. From the first freeze to the last thaw it touches no file: its
// descriptors are open, its memory is locked, its threads are there.
//
//	ready --freeze--> freezing --> frozen --thaw--> over
//	                      \----------\----- failure, deadline, end of the agent, signal --> over
type guard struct {
	fds      []int
	deadline time.Duration
	kmsg     int

	orders   chan byte // 0: the agent is gone
	begin    chan struct{}
	result   chan error    // of the freezing
	finished chan struct{} // the freezing is over: no FIFREEZE will return any more
	begun    bool

	mu     sync.Mutex
	frozen []bool
	over   bool // nothing may be frozen any more
	since  time.Time
	lost   int // a target that somebody else thawed; -1: none
}

// Guard is the guard process. The command of Config.Guard calls it with the arguments that follow that command, and ends
// when it returns.
func Guard(args []string) error {
	const op = "consistency: guard"
	if len(args) != 2 {
		return fault.New(fault.Invalid, op, "the agent starts it")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 1 || n > maxTargets {
		return fault.New(fault.Invalid, op, "%q file systems", args[0])
	}
	deadline, err := time.ParseDuration(args[1])
	if err != nil || deadline <= 0 || deadline > MaxDeadline {
		return fault.New(fault.Invalid, op, "deadline %q", args[1])
	}
	g := &guard{deadline: deadline, frozen: make([]bool, n), lost: -1, kmsg: -1,
		orders: make(chan byte), begin: make(chan struct{}), result: make(chan error, 1), finished: make(chan struct{})}
	for i := range n {
		g.fds = append(g.fds, fdTargets+i)
	}
	g.run()
	return nil
}

// prepare does what must not be done while anything is frozen.
func (g *guard) prepare() (locked bool) {
	debug.SetGCPercent(-1)
	if fd, err := unix.Open("/dev/kmsg", unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
		g.kmsg = fd
	}
	g.thread(g.listen)
	g.thread(func() {
		<-g.begin
		g.result <- g.freezeAll()
		close(g.finished)
	})
	return unix.Mlockall(unix.MCL_CURRENT) == nil
}

// thread runs f on a thread of its own that exists when thread returns. The process's end ends it.
func (g *guard) thread(f func()) {
	started := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(started)
		f()
	}()
	<-started
}

// listen hands on orders until the agent is gone.
func (g *guard) listen() {
	var b [1]byte
	for {
		switch n, err := unix.Read(fdOrders, b[:]); {
		case err == unix.EINTR:
		case err != nil || n == 0:
			g.orders <- 0
			return
		default:
			g.orders <- b[0]
		}
	}
}

func (g *guard) reply(word string, number int64) {
	_, _ = unix.Write(fdReplies, fmt.Appendf(nil, "%s %d\n", word, number)) // an agent that is gone needs none
}

func (g *guard) run() {
	signal.Ignore(syscall.SIGPIPE) // the agent may be gone
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	deadline := time.NewTimer(time.Hour)
	deadline.Stop()
	locked := int64(0)
	if g.prepare() {
		locked = 1
	}
	g.reply(replyReady, locked)
	for {
		select {
		case o := <-g.orders:
			switch {
			case o == orderSync:
				for _, fd := range g.fds {
					_ = unix.Syncfs(fd) // freezing does it again, and tells
				}
				g.reply(replySynced, 0)
			case o == orderFreeze && !g.begun:
				g.begun = true
				deadline.Reset(g.deadline)
				close(g.begin)
			case o == orderThaw && g.begun:
				g.thawByOrder()
			default:
				g.end("the agent is gone")
				return
			}
		case err := <-g.result:
			g.concluded(err)
		case <-deadline.C:
			g.thawAll("the deadline has passed")
		case <-signals:
			g.end("told to end")
			return
		}
	}
}

// freezeAll freezes one after the other until it is told that nothing may be frozen any more.
func (g *guard) freezeAll() error {
	g.since = time.Now()
	for i, fd := range g.fds {
		g.reply(replyTrying, int64(i))
		if g.isOver() {
			return unix.ECANCELED
		}
		err := freeze(fd) // may take long, and cannot be interrupted
		if err != nil {
			g.reply(replyRefused, int64(i))
			return err
		}
		if !g.keep(i) {
			return unix.ECANCELED
		}
	}
	return nil
}

func (g *guard) isOver() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.over
}

// keep notes that a target is frozen, or thaws it when that came too late.
func (g *guard) keep(i int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.frozen[i] = true
	if g.over {
		g.undo(i)
	}
	return !g.over
}

// undo thaws one. The caller holds g.mu.
func (g *guard) undo(i int) {
	if errors.Is(thaw(g.fds[i]), unix.EINVAL) {
		g.lost = i
	}
	g.frozen[i] = false
	g.reply(replyUndone, int64(i))
}

// thawAll thaws what is frozen, the last first, and has nothing frozen from now on. why is told to the kernel's log if
// there was anything.
func (g *guard) thawAll(why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	any := false
	g.over = true
	for i := len(g.fds) - 1; i >= 0; i-- {
		if g.frozen[i] {
			any = true
			g.undo(i)
		}
	}
	if any && why != "" && g.kmsg >= 0 {
		_, _ = unix.Write(g.kmsg, []byte("<4>understudy: file systems thawed: "+why+"\n")) // there is no other place
	}
}

func (g *guard) concluded(err error) {
	switch errno, _ := errors.AsType[unix.Errno](err); {
	case err == nil && !g.isOver():
		g.reply(replyFrozen, 0)
	case err == nil:
		g.reply(replyExpired, 0)
	default:
		g.thawAll("")
		g.reply(replyFailed, int64(errno))
	}
}

func (g *guard) thawByOrder() {
	expired := g.isOver()
	g.thawAll("")
	switch {
	case expired:
		g.reply(replyExpired, 0)
	case g.lost >= 0:
		g.reply(replyLost, int64(g.lost))
	default:
		g.reply(replyThawed, int64(time.Since(g.since)))
	}
}

// end returns when nothing is frozen, and nothing will be.
func (g *guard) end(why string) {
	g.thawAll(why)
	if g.begun {
		<-g.finished
	}
}
