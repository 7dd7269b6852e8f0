package query

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

func read(t *testing.T, target, kind, body string) (Form, error) {
	t.Helper()
	r := httptest.NewRequest("POST", target, strings.NewReader(body))
	r.Header.Set("Content-Type", kind)
	return Read(r)
}

const formType = "application/x-www-form-urlencoded; charset=utf-8"

func TestRead(t *testing.T) {
	f, err := read(t, "/?Action=A", formType, "Id.2=b&Id.1=a&Id.10=c&Id.x=d&Id.01=e&Id.-1=f&N=5&B=true")
	require.NoError(t, err)
	require.Equal(t, "A", f.Get("Action"))
	require.Equal(t, []string{"a", "b", "c"}, f.List("Id"))
	n, err := f.Int("N")
	require.NoError(t, err)
	require.Equal(t, int64(5), n)
	b, err := f.Bool("B")
	require.NoError(t, err)
	require.True(t, b)
	for _, name := range []string{"Id.1"} {
		_, err = f.Int(name)
		require.True(t, fault.Is(err, fault.Invalid))
		_, err = f.Bool(name)
		require.True(t, fault.Is(err, fault.Invalid))
	}
	f, err = read(t, "/?Q=%ff", formType, "B=a%ed%a0%80b")
	require.NoError(t, err)
	require.Equal(t, []string{"\uFFFD", "a\uFFFDb"}, []string{f.Get("Q"), f.Get("B")}, "what is no UTF-8 is replaced")
	n, err = f.Int("none")
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestReadRefuses(t *testing.T) {
	for _, c := range [][3]string{
		{"/", "application/json", "{}"}, {"/", formType, "%zz"}, {"/", formType, "A=1&A=2"}, {"/?A=1", formType, "A=2"},
	} {
		_, err := read(t, c[0], c[1], c[2])
		require.True(t, fault.Is(err, fault.Invalid), "%v: %v", c, err)
	}
}

func TestWriteTellsOfABadDocument(t *testing.T) {
	w := httptest.NewRecorder()
	require.True(t, fault.Is(Write(w, 200, make(chan int)), fault.Bug))
	require.Equal(t, 500, w.Code)
}

func FuzzNumbers(f *testing.F) {
	f.Add("Id.1=a&Id.2.x=b&Id.=c")
	f.Fuzz(func(t *testing.T, body string) {
		form, err := read(t, "/", formType, body)
		if err != nil {
			return
		}
		last := -1
		for _, n := range form.Numbers("Id") {
			require.Greater(t, n, last)
			last = n
		}
		require.LessOrEqual(t, len(form.List("Id")), maxElements)
	})
}
