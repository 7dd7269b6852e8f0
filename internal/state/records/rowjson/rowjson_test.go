package rowjson

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/state"
)

func seed(t *testing.T) *rand.Rand {
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv("UNDERSTUDY_SEED"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		n = v
	}
	t.Logf("UNDERSTUDY_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 0))
}

// fill sets v to anything of its type.
func fill(rng *rand.Rand, v reflect.Value) {
	if rng.IntN(5) == 0 {
		return // left as it is
	}
	if v.Type() == timeType {
		at := time.Unix(rng.Int64N(1<<34), rng.Int64N(1e9)).UTC()
		if rng.IntN(4) == 0 {
			at = at.Truncate(time.Second)
		}
		if rng.IntN(20) == 0 {
			at = at.In(time.FixedZone("", 3600*(rng.IntN(24)-12)))
		}
		v.Set(reflect.ValueOf(at))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(rng.Uint64()) >> rng.IntN(64))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(rng.Uint64() >> rng.IntN(64))
	case reflect.String:
		v.SetString(word(rng))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(rng, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rng.IntN(4), 8))
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range rng.IntN(4) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(rng, key)
			fill(rng, value)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(rng, v.Field(i))
			}
		}
	}
}

func word(rng *rand.Rand) string {
	odd := []string{"ü", "\"", "\\", "<", "\n", "\x00", "€", "\U0001F980", " ", ",", "}", "]", ":", "null", "\u2028"}
	var b strings.Builder
	for range rng.IntN(12) {
		if rng.IntN(30) == 0 {
			b.WriteString(odd[rng.IntN(len(odd))])
			continue
		}
		b.WriteByte(byte('a' + rng.IntN(26)))
	}
	return b.String()
}

// same writes records of one type and reads them both ways, whole and damaged in one place.
func same[T any](t *testing.T, rng *rand.Rand) {
	t.Helper()
	quick, rounds := 0, 200
	for range rounds {
		var v T
		fill(rng, reflect.ValueOf(&v).Elem())
		b, err := json.Marshal(v)
		require.NoError(t, err)
		agree[T](t, string(b))
		if read := readerOf(reflect.TypeFor[T]()); read != nil {
			if x := (text{s: string(b)}); read(&x, reflect.ValueOf(new(T)).Elem()) && x.at == len(b) {
				quick++
			}
		}
		for range 10 {
			agree[T](t, damage(rng, string(b)))
		}
	}
	t.Logf("%T: %d of %d without encoding/json", *new(T), quick, rounds)
}

// damage changes a text in one place, as likely as not to another one that means something.
func damage(rng *rand.Rand, s string) string {
	at, to := rng.IntN(len(s)), rng.IntN(len(s))
	pieces := []string{" ", ",", "{", "}", "[", "]", "\"", "null", "0", "-", "1.5", "1e3", "\\u0041", ":", "x", "\xff", "true"}
	switch rng.IntN(5) {
	case 0:
		return s[:at]
	case 1:
		return s[:at] + s[at+1:]
	case 2:
		return s[:at] + pieces[rng.IntN(len(pieces))] + s[at:]
	case 3:
		return s[:at] + strings.ToLower(s[at:])
	}
	return s[:max(at, to)] + s[min(at, to):] // a part of it twice
}

// agree requires that a text means what it means to encoding/json.
func agree[T any](t *testing.T, body string) {
	t.Helper()
	var want T
	wantErr := json.Unmarshal([]byte(body), &want)
	got, err := Unmarshal[T](body)
	require.Equal(t, wantErr, err, body)
	if err == nil {
		require.Equal(t, want, got, body)
	}
}

func TestAgreesWithEncodingJSON(t *testing.T) {
	rng := seed(t)
	same[state.Server](t, rng)
	same[state.Replication](t, rng)
	same[state.Template](t, rng)
	same[state.Application](t, rng)
	same[state.Wave](t, rng)
	same[state.Job](t, rng)
	same[state.AccessKey](t, rng)
	same[state.SourceNetwork](t, rng)
	same[state.LaunchTemplate](t, rng)
}

// What the reader does not know by itself is left to encoding/json.
func TestOtherTypes(t *testing.T) {
	type inner struct{ A int }
	type own struct{ At time.Time }
	type tree struct {
		Name string
		Kids []tree
	}
	rng := seed(t)
	same[struct{ inner }](t, rng)
	same[struct {
		N int `json:",string"`
	}](t, rng)
	same[struct {
		F float64
		B []byte
		M map[string]int
	}](t, rng)
	same[struct {
		A int8   `json:"a"`
		B uint16 `json:"b-b"`
		C bool   `json:"-"`
		D *own   `json:",omitempty"`
	}](t, rng)
	same[struct {
		A int8
		U uint8
		P *own
		L [][]string
		E []own
	}](t, rng)
	agree[tree](t, `{"Name":"a","Kids":[{"Name":"b","Kids":null}]}`)
	agree[string](t, `"x"`)
	agree[[]string](t, `["x","y"]`)
	agree[any](t, `{"a":[1]}`)
}

// TestRecordsNeedNoHelp: rows of source servers as they are in fact are read without encoding/json.
func TestRecordsNeedNoHelp(t *testing.T) {
	for _, v := range []any{server(), replication()} {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		x, out := text{s: string(b)}, reflect.New(reflect.TypeOf(v))
		read := readerOf(out.Type().Elem())
		require.NotNil(t, read)
		require.True(t, read(&x, out.Elem()), "%s", x.rest())
		require.Equal(t, v, out.Elem().Interface())
	}
}

// TestOlderRows: members that a record lacks are zero, those that it has no more are passed over.
func TestOlderRows(t *testing.T) {
	type old struct {
		ID     string
		Former int
		Name   string
	}
	type now struct {
		ID, Name string
		Since    time.Time
	}
	b, err := json.Marshal(old{"1", 2, "n"})
	require.NoError(t, err)
	got, err := Unmarshal[now](string(b))
	require.NoError(t, err)
	require.Equal(t, now{ID: "1", Name: "n"}, got)
	for _, c := range []string{`{"Name":"n","ID":"1"}`, `{"id":"1","NAME":"n"}`, ` {"ID": "1", "Name": "n"} `, `{"ID":"2","ID":"1","Name":"n"}`} {
		got, err := Unmarshal[now](c)
		require.NoError(t, err)
		require.Equal(t, now{ID: "1", Name: "n"}, got, c)
	}
}

func FuzzAgreesWithEncodingJSON(f *testing.F) {
	for _, v := range []any{server(), replication()} {
		b, err := json.Marshal(v)
		require.NoError(f, err)
		f.Add(string(b))
	}
	f.Fuzz(func(t *testing.T, body string) {
		agree[state.Server](t, body)
		agree[state.Replication](t, body)
	})
}

var at = time.Date(2026, 11, 23, 2, 27, 24, 216581000, time.UTC)

func server() state.Server {
	return state.Server{ID: "s-73a13fe097844dfda", Scope: state.Scope{Account: "123456789012", Service: state.MGN}, Identity: "machine-1", CreatedAt: at,
		Tags: map[string]string{"Name": "web", "owner": "somebody"}, ReplicationType: state.AgentBased,
		Agent: state.Agent{Version: "1.0", WireVersions: []uint32{3, 2, 1}, Capture: "ebpf"}, LifeCycle: state.LifeCycle{State: state.ReadyForTest},
		Machine: state.Machine{Disks: []string{"a1b2", "c3d4"}, Boot: "5f1d6f0e"}, Disks: []state.Disk{{DeviceName: "/dev/sda", Bytes: 1 << 40, Boot: true}},
		Properties: state.SourceProperties{UpdatedAt: at, OS: "Linux version 6.1.0-28-amd64 (debian-kernel@lists.debian.org) #1 SMP", RAMBytes: 1 << 34,
			CPUs: []state.CPU{{Cores: 8, Model: "Xeon"}}, NICs: []state.NIC{{MAC: "02:00:00:00:00:07", IPs: []string{"10.0.0.7", "fe80::1"}, Primary: true}},
			Routes: []state.Route{{Destination: "10.2.0.0/16", Gateway: "10.0.0.1", MAC: "02:00:00:00:00:07"}}, Resolver: state.Resolver{Servers: []string{"10.0.0.2"}},
			Disks: []state.SourceDisk{{DeviceName: "/dev/sda", Bytes: 1 << 40}}, Hints: state.Hints{Hostname: "web", FQDN: "web.example.org"}, RecommendedType: "c5.large"},
		Config: state.ReplicationConfig{StagingAreaSubnetID: "subnet-00000000000000000", SecurityGroupIDs: []string{"sg-1"}, LargeStagingDiskType: "GP3",
			EBSEncryption: "DEFAULT", DataPlaneRouting: "PRIVATE_IP", InternetProtocol: "IPV4", StagingAreaTags: map[string]string{"a": "b"},
			PITPolicy: []state.PITRule{{ID: 1, Units: state.Minute, Interval: 10, Retention: 60, Enabled: true}},
			Disks:     []state.DiskConfig{{DeviceName: "/dev/sda", Boot: true, StagingDiskType: "AUTO"}}}}
}

func replication() state.Replication {
	r := state.Replication{ServerID: "s-73a13fe097844dfda", Scope: state.Scope{Account: "123456789012", Service: state.MGN}, Intent: state.IntentRun,
		State: state.Stalled, Error: &state.ReplicationError{Code: state.AgentNotSeen, Raw: "not seen for 5m"}, ErrorAt: at,
		Attempt: state.Attempt{ID: 1, StartedAt: at, NextAttemptAt: at}, FirstByteAt: at, LastSeenAt: at,
		Disks: []state.DiskProgress{{DeviceName: "/dev/sda", Total: 1 << 40, Replicated: 1 << 39}}}
	for _, name := range state.StepNames {
		r.Attempt.Steps = append(r.Attempt.Steps, state.Step{Name: name, Status: state.Succeeded, StartedAt: at, EndedAt: at})
	}
	return r
}

func BenchmarkUnmarshal(b *testing.B) {
	s, err := json.Marshal(server())
	require.NoError(b, err)
	r, err := json.Marshal(replication())
	require.NoError(b, err)
	b.Run("rowjson", func(b *testing.B) {
		for b.Loop() {
			_, err1 := Unmarshal[state.Server](string(s))
			_, err2 := Unmarshal[state.Replication](string(r))
			require.NoError(b, err1)
			require.NoError(b, err2)
		}
	})
	b.Run("encoding", func(b *testing.B) {
		for b.Loop() {
			var v state.Server
			var w state.Replication
			require.NoError(b, json.Unmarshal(s, &v))
			require.NoError(b, json.Unmarshal(r, &w))
		}
	})
}
