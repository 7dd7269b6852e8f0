package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The committed packages are what the generator writes today, and running it twice gives the same bytes.
func TestGeneratedPackagesAreCurrent(t *testing.T) {
	for _, s := range services {
		files, err := render(filepath.Join("../../shapes", s.file), s.pkg)
		require.NoError(t, err)
		again, err := render(filepath.Join("../../shapes", s.file), s.pkg)
		require.NoError(t, err)
		for name, want := range files {
			require.Equal(t, string(want), string(again[name]), "%s/%s is not deterministic", s.pkg, name)
			have, err := os.ReadFile(filepath.Join("../..", s.pkg, name))
			require.NoError(t, err)
			require.Equal(t, string(want), string(have), "%s/%s is stale: run go generate ./api/...", s.pkg, name)
		}
	}
}

func TestPatternRewritesWhatGoLacks(t *testing.T) {
	cases := []struct{ expr, want string }{
		{`s-[0-9]{17}`, `&rest.Pattern{Expr: "s-[0-9]{17}"}`},
		{`[^x]{1,2500}y`, `&rest.Pattern{Expr: "[^x]{1,2500}y", RE2: "[^x]{1,1000}[^x]{0,1000}[^x]{0,500}y"}`},
		{`(?!aws:)[a-z]*`, `&rest.Pattern{Expr: "(?!aws:)[a-z]*", RE2: "[a-z]*", Not: "aws:"}`},
	}
	for _, c := range cases {
		got, err := pattern(c.expr)
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	for _, expr := range []string{`(?<=a)b`, `(?!a|b)c`, `(a)\1`, `(ab){1,2000}`} {
		_, err := pattern(expr)
		require.Error(t, err, expr)
	}
}

func TestSplitRepeatKeepsTheLanguage(t *testing.T) {
	re := regexp.MustCompile(`\A(?:` + splitRepeat(`a{3,1005}`) + `)\z`)
	for n, want := range map[int]bool{2: false, 3: true, 1000: true, 1005: true, 1006: false} {
		require.Equal(t, want, re.MatchString(strings.Repeat("a", n)), "%d", n)
	}
}

func TestCheckRefusesCollisions(t *testing.T) {
	m := &model{Shapes: map[string]*shape{
		"State":         {Type: "string", Enum: []string{"READY_NOW"}},
		"StateReadyNow": {Type: "structure"},
	}}
	require.ErrorContains(t, m.check(), "StateReadyNow")
}
