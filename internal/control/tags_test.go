package control

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

func TestTags(t *testing.T) {
	have := map[string]string{"aws:made-before": "stays", "owner": "somebody"}
	got, err := AddTags(have, map[string]string{"owner": "else", "awsome": "", "a:aws:b": "\u00e9", strings.Repeat("\u00e9", 256): strings.Repeat("\u00e9", 256)})
	require.NoError(t, err)
	require.Len(t, got, 5)
	require.Equal(t, "else", got["owner"])
	require.Equal(t, "somebody", have["owner"], "what was given is not touched")
	for _, wrong := range []map[string]string{{"": "x"}, {"aws:x": ""}, {"AWS:x": ""}, {"aWs:": ""}, {strings.Repeat("x", 257): ""}, {"x": strings.Repeat("x", 257)}} {
		_, err := AddTags(have, wrong)
		require.True(t, fault.Is(err, fault.Invalid), "%v: %v", wrong, err)
		_, err = AddTags(nil, wrong)
		require.True(t, fault.Is(err, fault.Invalid), "%v: %v", wrong, err)
	}
	many := map[string]string{}
	for i := range 49 {
		many[strconv.Itoa(i)] = ""
	}
	_, err = AddTags(map[string]string{"owner": "", "0": ""}, many)
	require.NoError(t, err, "fifty")
	many["49"] = ""
	_, err = AddTags(map[string]string{"owner": "", "0": ""}, many)
	require.True(t, fault.Is(err, fault.Invalid), "%v", err)
}
