package consistency

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/understudy-dr/understudy/internal/fault"
)

// hold is the agent's side of a guard. It has descriptors of its own for all targets, for the case that the guard dies.
type hold struct {
	targets  []*Target
	deadline time.Duration
	cmd      *exec.Cmd
	orders   *os.File
	replies  *os.File
	lines    *bufio.Reader
	tried    *Target
	doubt    []bool // targets that may be frozen
}

const guardOp = "consistency: guard"

// startGuard starts a guard, and returns when it is ready and what can be written beforehand is.
func (r *run) startGuard(ctx context.Context) (_ *hold, err error) {
	if n := len(r.targets); n > maxTargets {
		return nil, fault.New(fault.Unsupported, guardOp, "%d file systems, at most %d are frozen at once", n, maxTargets)
	}
	h := &hold{targets: r.targets, deadline: r.cfg.Deadline, doubt: make([]bool, len(r.targets))}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.end())
		}
	}()
	if err := h.start(r.cfg.Guard); err != nil {
		return h, err
	}
	locked, err := h.await(ctx, syncAtMost, replyReady)
	if err != nil {
		return h, err
	}
	if locked == 0 {
		r.point.Warnings = append(r.point.Warnings, "the guard's memory could not be locked: give the agent CAP_IPC_LOCK or LimitMEMLOCK=infinity")
	}
	if err := h.order(orderSync); err != nil {
		return h, err
	}
	_, err = h.await(ctx, syncAtMost, replySynced)
	return h, err
}

func (h *hold) start(command []string) error {
	ordersIn, orders, err := os.Pipe()
	if err != nil {
		return fault.New(fault.Transient, guardOp, "%w", err)
	}
	defer ordersIn.Close()
	h.orders = orders
	replies, repliesOut, err := os.Pipe()
	if err != nil {
		return fault.New(fault.Transient, guardOp, "%w", err)
	}
	defer repliesOut.Close()
	h.replies, h.lines = replies, bufio.NewReader(replies)
	cmd := exec.Command(command[0], append(command[1:len(command):len(command)], strconv.Itoa(len(h.targets)), h.deadline.String())...)
	cmd.ExtraFiles = []*os.File{ordersIn, repliesOut}
	for _, t := range h.targets {
		cmd.ExtraFiles = append(cmd.ExtraFiles, t.file)
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what ends the agent's group does not end it
	if err := cmd.Start(); err != nil {
		return fault.New(fault.Transient, guardOp, "%w", err)
	}
	h.cmd = cmd
	return nil
}

func (h *hold) order(o byte) error {
	if _, err := h.orders.Write([]byte{o}); err != nil {
		return fault.New(fault.Transient, guardOp, "died: %w", err)
	}
	return nil
}

// freeze returns when all targets are frozen, or none is.
func (h *hold) freeze() error {
	if err := h.order(orderFreeze); err != nil {
		return err
	}
	_, err := h.await(context.Background(), h.deadline+grace, replyFrozen)
	return err
}

// thaw returns when none is frozen. An error means that they had not all stayed frozen until now.
func (h *hold) thaw() (time.Duration, error) {
	if err := h.order(orderThaw); err != nil {
		return 0, err
	}
	n, err := h.await(context.Background(), h.deadline+grace, replyThawed)
	return time.Duration(n), err
}

// await reads replies until the one that is wanted or one that makes it impossible.
func (h *hold) await(ctx context.Context, atMost time.Duration, want string) (int64, error) {
	if err := h.replies.SetReadDeadline(time.Now().Add(atMost)); err != nil {
		return 0, fault.New(fault.Bug, guardOp, "%w", err)
	}
	unhook := context.AfterFunc(ctx, func() { _ = h.replies.SetReadDeadline(time.Now()) }) // only a closed file has none
	defer unhook()
	for {
		word, n, err := h.next()
		switch {
		case err != nil && ctx.Err() != nil:
			return 0, fault.New(fault.Transient, guardOp, "the agent stops")
		case errors.Is(err, os.ErrDeadlineExceeded):
			return 0, fault.New(fault.Transient, guardOp, "did not answer within %s", atMost)
		case err != nil:
			return 0, err
		case word == want:
			return n, nil
		}
		if err := h.refusal(word, n); err != nil {
			return 0, err
		}
	}
}

// next reads one reply and takes note of what it says about a target.
func (h *hold) next() (word string, n int64, err error) {
	line, err := h.lines.ReadString('\n')
	if errors.Is(err, io.EOF) {
		return "", 0, fault.New(fault.Transient, guardOp, "died")
	}
	if err != nil {
		return "", 0, fault.New(fault.Transient, guardOp, "%w", err)
	}
	if _, err := fmt.Sscanf(line, "%s %d\n", &word, &n); err != nil {
		return "", 0, fault.New(fault.Bug, guardOp, "said %q", line)
	}
	if n < 0 || n >= int64(len(h.targets)) {
		return word, n, nil
	}
	switch word {
	case replyTrying:
		h.doubt[n], h.tried = true, h.targets[n]
	case replyUndone, replyRefused:
		h.doubt[n] = false
	}
	return word, n, nil
}

// refusal is why what was waited for will not come; nil if it still may.
func (h *hold) refusal(word string, n int64) error {
	switch {
	case word == replyLost && n >= 0 && n < int64(len(h.targets)):
		return fault.New(fault.Conflict, guardOp, "somebody else thawed %s before the point was taken", h.targets[n].Mount)
	case word == replyExpired, word == replyFailed && unix.Errno(n) == unix.ECANCELED:
		return fault.New(fault.Transient, guardOp, "frozen for %s and thawed before the point was taken", h.deadline).
			WithHint("are the disks very busy? --freeze-at-most allows more")
	case word == replyFailed:
		return h.notFrozen(unix.Errno(n))
	}
	return nil
}

func (h *hold) notFrozen(errno unix.Errno) error {
	err := fault.New(fault.Conflict, guardOp, "cannot freeze: %w", errno)
	if h.tried != nil {
		err = fault.New(fault.Conflict, guardOp, "cannot freeze %s: %w", h.tried.Mount, errno)
	}
	switch errno {
	case unix.EBUSY:
		return err.WithHint("somebody else has frozen it: see 'fsfreeze -u'")
	case unix.EOPNOTSUPP, unix.ENOTTY:
		return err.WithHint("its kind of file system cannot be frozen: name others with --freeze")
	case unix.EPERM:
		return err.WithHint("the agent needs CAP_SYS_ADMIN")
	}
	return err
}

// end ends the guard and returns when nothing of ours is frozen, if need be through descriptors of our own.
func (h *hold) end() (err error) {
	if h.orders != nil {
		h.orders.Close()
	}
	if h.replies != nil {
		defer h.replies.Close()
	}
	if h.cmd == nil {
		return nil
	}
	// The guard ends by itself now. It is the only one that holds the other end of the pipe.
	_ = h.replies.SetReadDeadline(time.Now().Add(h.deadline + grace)) // only a closed file has none
	for killed := false; ; {
		_, _, err := h.next()
		if err == nil || fault.Is(err, fault.Bug) {
			continue
		}
		if killed || !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		killed = true
		_ = h.cmd.Process.Kill()                   // it may have ended just now
		_ = h.replies.SetReadDeadline(time.Time{}) // the kernel ends it when its FIFREEZE returns
	}
	_ = h.cmd.Wait() // how it ended is in its replies
	return h.thawDoubtful()
}

// thawDoubtful thaws what a guard that is dead may have left frozen.
func (h *hold) thawDoubtful() (err error) {
	for i := len(h.targets) - 1; i >= 0; i-- {
		if !h.doubt[i] {
			continue
		}
		h.doubt[i] = false
		if errno := thaw(int(h.targets[i].file.Fd())); errno != nil && !errors.Is(errno, unix.EINVAL) {
			err = errors.Join(err, fault.New(fault.Bug, guardOp, "%s may still be frozen: %w", h.targets[i].Mount, errno))
		}
	}
	return err
}
