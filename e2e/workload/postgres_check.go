package workload

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/understudy-dr/understudy/e2e/harness"
)

// Adopt makes a copied cluster startable beside the one it was copied from: the lock of that postmaster is no lock here.
func (p *Postgres) Adopt() error {
	if err := os.Remove(filepath.Join(p.Data, "postmaster.pid")); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// Balanced checks TPC-B's invariant: every transaction moved the same amount in an account, a teller, a branch and the history.
func (p *Postgres) Balanced(t harness.T) error {
	t.Helper()
	sums := p.Query(t, `SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
		(SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history),
		(SELECT count(*) FROM pgbench_history), (SELECT count(*) FROM ledger)`)
	if len(sums) != 1 {
		return fmt.Errorf("%d rows of sums", len(sums))
	}
	return balanced(sums[0])
}

func balanced(sums string) error {
	var accounts, tellers, branches, history, entries, ledger int64
	if _, err := fmt.Sscanf(sums, "%d|%d|%d|%d|%d|%d", &accounts, &tellers, &branches, &history, &entries, &ledger); err != nil {
		return fmt.Errorf("%q: %w", sums, err)
	}
	if accounts != tellers || accounts != branches || accounts != history || entries != ledger {
		return fmt.Errorf("transactions are there in part: accounts %d, tellers %d, branches %d, history %d in %d entries, ledger of %d",
			accounts, tellers, branches, history, entries, ledger)
	}
	return nil
}

// Sound runs PostgreSQL's own check of every table and index of the running cluster, then stops it and verifies the
// checksum of every page.
func (p *Postgres) Sound(t harness.T) error {
	t.Helper()
	if _, err := harness.Try(t.Context(), filepath.Join(p.bin, "pg_amcheck"), "-h", p.Socket, "-p", port, "-U", "postgres",
		"--all", "--install-missing", "--heapallindexed"); err != nil {
		return err
	}
	p.stop(t)
	_, err := harness.Try(t.Context(), "setpriv", p.as("pg_checksums", "--check", "-D", p.Data)...)
	return err
}

// Through waits until the log says all of an instant: every client has logged a transaction that it began later.
func (b *Bench) Through(t harness.T, at time.Time) []Transaction {
	t.Helper()
	var txs []Transaction
	harness.Eventually(t, 3*time.Minute, "pgbench logs what was begun after "+at.Format(time.RFC3339Nano), func() (bool, string) {
		if b.Ended() {
			t.Fatalf("pgbench ended: %v\n%s", b.Err(), b.Log())
		}
		txs = b.Transactions(t)
		later := map[int]bool{}
		for _, tx := range txs {
			later[tx.Client] = later[tx.Client] || tx.Begun.After(at)
		}
		past := 0
		for _, is := range later {
			if is {
				past++
			}
		}
		return past == b.clients, fmt.Sprintf("%d of %d clients are past it", past, b.clients)
	})
	return txs
}
