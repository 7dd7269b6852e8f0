package templates

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/fault"
	"github.com/understudy-dr/understudy/internal/state"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

var drs = state.Scope{Account: "111122223333", Service: state.DRS}

func setup(t *testing.T) *Templates {
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Update(t.Context(), func(tx state.Tx) error { return tx.PutInitialised(t.Context(), drs, time.Now()) }))
	return New(s)
}

func TestOneTemplatePerScope(t *testing.T) {
	ts := setup(t)
	policy, subnet := DefaultPITPolicy(), NoSubnet
	patch := control.ConfigPatch{PITPolicy: &policy, StagingAreaSubnetID: &subnet}
	v, err := ts.Create(t.Context(), drs, patch, map[string]string{"a": "b"})
	require.NoError(t, err)
	require.Regexp(t, `^rct-[0-9a-f]{17}$`, v.ID)
	got, err := ts.Get(t.Context(), drs, v.ID)
	require.NoError(t, err)
	require.Equal(t, v, got)
	_, err = ts.Create(t.Context(), drs, patch, nil)
	require.ErrorIs(t, err, control.ErrQuota)
	require.NotContains(t, err.Error(), "\n", "it is shown in one line")
	_, ok := errors.AsType[*control.ResourceError](err)
	require.True(t, ok)

	items, next, err := ts.List(t.Context(), drs, []string{"rct-unknown"}, state.Page{})
	require.NoError(t, err)
	require.Empty(t, items)
	require.Empty(t, next)

	limit := int64(9)
	v, err = ts.Update(t.Context(), drs, v.ID, control.ConfigPatch{BandwidthMbps: &limit})
	require.NoError(t, err)
	require.EqualValues(t, 9, v.Config.BandwidthMbps)
	require.Equal(t, policy, v.Config.PITPolicy)
	require.NoError(t, ts.Untag(t.Context(), drs, v.ID, []string{"a"}))
	require.NoError(t, ts.Delete(t.Context(), drs, v.ID))
	err = ts.Delete(t.Context(), drs, v.ID)
	require.True(t, fault.Is(err, fault.NotFound))
	_, err = ts.Create(t.Context(), drs, patch, nil)
	require.NoError(t, err)
}

// A client that leaves its own key behind has no way to send an empty one.
func TestKeyGoesWithCustomEncryption(t *testing.T) {
	ts := setup(t)
	policy, subnet := DefaultPITPolicy(), NoSubnet
	custom, ordinary, key := control.CustomEncryption, "DEFAULT", "arn:aws:kms:us-east-1:111122223333:key/x"
	v, err := ts.Create(t.Context(), drs, control.ConfigPatch{PITPolicy: &policy, StagingAreaSubnetID: &subnet,
		EBSEncryption: &custom, EBSEncryptionKeyARN: &key}, nil)
	require.NoError(t, err)
	v, err = ts.Update(t.Context(), drs, v.ID, control.ConfigPatch{EBSEncryption: &custom})
	require.NoError(t, err)
	require.Equal(t, key, v.Config.EBSEncryptionKeyARN)
	v, err = ts.Update(t.Context(), drs, v.ID, control.ConfigPatch{EBSEncryption: &ordinary})
	require.NoError(t, err)
	require.Empty(t, v.Config.EBSEncryptionKeyARN)
	_, err = ts.Update(t.Context(), drs, v.ID, control.ConfigPatch{EBSEncryption: &ordinary, EBSEncryptionKeyARN: &key})
	require.True(t, fault.Is(err, fault.Invalid))
}

func TestTagsAreCountedInCharacters(t *testing.T) {
	ts := setup(t)
	policy, subnet := DefaultPITPolicy(), NoSubnet
	v, err := ts.Create(t.Context(), drs, control.ConfigPatch{PITPolicy: &policy, StagingAreaSubnetID: &subnet}, nil)
	require.NoError(t, err)
	long := strings.Repeat("ü", 256)
	require.NoError(t, ts.Tag(t.Context(), drs, v.ID, map[string]string{long: long}))
	require.True(t, fault.Is(ts.Tag(t.Context(), drs, v.ID, map[string]string{"a": long + "ü"}), fault.Invalid))
	require.True(t, fault.Is(ts.Tag(t.Context(), drs, v.ID, map[string]string{long + "ü": "a"}), fault.Invalid))
}

func TestPITPolicyIsStrict(t *testing.T) {
	good := func() []state.PITRule { return DefaultPITPolicy() }
	require.Empty(t, badPITPolicy(good()))
	reversed := []state.PITRule{good()[2], good()[0], good()[1]}
	require.Empty(t, badPITPolicy(reversed))
	year := good()
	year[2].Retention = 365
	require.Empty(t, badPITPolicy(year))
	for name, spoil := range map[string]func([]state.PITRule) []state.PITRule{
		"none":           func([]state.PITRule) []state.PITRule { return nil },
		"two":            func(r []state.PITRule) []state.PITRule { return r[:2] },
		"four":           func(r []state.PITRule) []state.PITRule { return append(r, r[0]) },
		"twice minutes":  func(r []state.PITRule) []state.PITRule { r[1].Units = state.Minute; return r },
		"unknown units":  func(r []state.PITRule) []state.PITRule { r[1].Units = "WEEK"; return r },
		"minute 5":       func(r []state.PITRule) []state.PITRule { r[0].Interval = 5; return r },
		"minute for 120": func(r []state.PITRule) []state.PITRule { r[0].Retention = 120; return r },
		"hour 2":         func(r []state.PITRule) []state.PITRule { r[1].Interval = 2; return r },
		"hour for 25":    func(r []state.PITRule) []state.PITRule { r[1].Retention = 25; return r },
		"day 2":          func(r []state.PITRule) []state.PITRule { r[2].Interval = 2; return r },
		"day for 0":      func(r []state.PITRule) []state.PITRule { r[2].Retention = 0; return r },
		"day for 366":    func(r []state.PITRule) []state.PITRule { r[2].Retention = 366; return r },
		"same ids":       func(r []state.PITRule) []state.PITRule { r[2].ID = 1; return r },
	} {
		require.NotEmpty(t, badPITPolicy(spoil(good())), name)
	}
}

func TestValidate(t *testing.T) {
	base := func(s state.Service) state.ReplicationConfig {
		c := Defaults(s)
		c.StagingAreaSubnetID = NoSubnet
		if s == state.DRS {
			c.PITPolicy = DefaultPITPolicy()
		}
		return c
	}
	for _, s := range []state.Service{state.DRS, state.MGN} {
		require.NoError(t, Validate(s, base(s)))
		for name, spoil := range map[string]func(*state.ReplicationConfig){
			"stagingAreaSubnetId": func(c *state.ReplicationConfig) { c.StagingAreaSubnetID = "" },
			"ebsEncryptionKeyArn": func(c *state.ReplicationConfig) { c.EBSEncryption = "CUSTOM" },
			"bandwidthThrottling": func(c *state.ReplicationConfig) { c.BandwidthMbps = -1 },
			"pitPolicy": func(c *state.ReplicationConfig) {
				if s == state.DRS {
					c.PITPolicy = nil
				} else {
					c.PITPolicy = DefaultPITPolicy()
				}
			},
		} {
			c := base(s)
			spoil(&c)
			err := Validate(s, c)
			require.True(t, fault.Is(err, fault.Invalid))
			fe, ok := errors.AsType[*control.FieldError](err)
			require.True(t, ok)
			require.Len(t, fe.Fields, 1)
			require.Equal(t, name, fe.Fields[0].Name)
		}
	}
}
