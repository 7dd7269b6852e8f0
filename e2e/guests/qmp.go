package guests

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// monitor is QEMU's machine protocol, as little of it as the scenarios need.
type monitor struct {
	conn net.Conn
	in   *bufio.Reader
}

const monitorTimeout = 2 * time.Minute

func dialMonitor(path string) (*monitor, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	m := &monitor{conn, bufio.NewReader(conn)}
	if err := m.greeted(); err != nil {
		conn.Close()
		return nil, err
	}
	return m, nil
}

func (m *monitor) greeted() error {
	if err := m.conn.SetDeadline(time.Now().Add(monitorTimeout)); err != nil {
		return err
	}
	if _, err := m.in.ReadBytes('\n'); err != nil {
		return err
	}
	return m.do("qmp_capabilities")
}

// do executes a command without arguments and waits for its answer, past events.
func (m *monitor) do(command string) error {
	if err := m.conn.SetDeadline(time.Now().Add(monitorTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(m.conn, "{\"execute\":%q}\n", command); err != nil {
		return err
	}
	for {
		line, err := m.in.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		var answer struct {
			Return *json.RawMessage `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		if err := json.Unmarshal(line, &answer); err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, line)
		}
		switch {
		case answer.Error != nil:
			return fmt.Errorf("%s: %s", command, answer.Error.Desc)
		case answer.Return != nil:
			return nil
		}
	}
}
