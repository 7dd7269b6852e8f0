package awsapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkdrs "github.com/aws/aws-sdk-go-v2/service/drs"
	drstypes "github.com/aws/aws-sdk-go-v2/service/drs/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/control/audit"
	"github.com/understudy-dr/understudy/internal/state"
)

// trail keeps records in memory, and how often somebody waited for one.
type trail struct {
	mu      sync.Mutex
	records []audit.Record
	waited  map[string]int // by operation
}

func (t *trail) Append(r audit.Record) func(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.records = append(t.records, r)
	return func(context.Context) error {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.waited == nil {
			t.waited = map[string]int{}
		}
		t.waited[r.EventName]++
		return nil
	}
}

// of is the last record of an operation.
func (t *trail) of(test *testing.T, operation string) audit.Record {
	test.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range slices.Backward(t.records) {
		if r.EventName == operation {
			return r
		}
	}
	require.FailNow(test, "no record of "+operation)
	return audit.Record{}
}

func TestRecordOfARefusedChange(t *testing.T) {
	w, ctx := initialized(t)
	_, err := w.drs(w.user).StopReplication(ctx, &sdkdrs.StopReplicationInput{SourceServerID: aws.String("s-00000000000000009")})
	require.Equal(t, "ResourceNotFoundException", code(err))
	r := w.trail.of(t, "StopReplication")
	require.Equal(t, "ResourceNotFoundException", r.ErrorCode)
	require.Contains(t, r.ErrorMessage, "s-00000000000000009")
	require.Equal(t, "drs.amazonaws.com", r.EventSource)
	require.Equal(t, region, r.AWSRegion)
	require.Equal(t, account, r.RecipientAccountID)
	require.Equal(t, "127.0.0.1", r.SourceIPAddress)
	require.Contains(t, r.UserAgent, "aws-sdk-go-v2")
	require.Equal(t, "IAMUser", r.UserIdentity.Type)
	require.Equal(t, "arn:aws:iam::000000000001:user/reader", r.UserIdentity.ARN)
	require.Equal(t, w.user.ID, r.UserIdentity.AccessKeyID)
	require.Equal(t, "TLSv1.3", tlsVersion(r))
	require.JSONEq(t, `{"sourceServerID":"s-00000000000000009"}`, string(r.RequestParameters))
	require.Nil(t, r.ResponseElements)
	require.False(t, r.ReadOnly)
	require.NotEmpty(t, r.RequestID)
	require.NotEmpty(t, r.EventID)
	require.Equal(t, 1, w.trail.waited["StopReplication"], "the answer waits for its record")
}

func tlsVersion(r audit.Record) string {
	if r.TLSDetails == nil {
		return ""
	}
	return map[string]string{"TLS 1.3": "TLSv1.3", "TLS 1.2": "TLSv1.2"}[r.TLSDetails.Version]
}

func TestRecordOfAChangeHidesWhatIsSensitive(t *testing.T) {
	w, ctx := initialized(t)
	id := w.add(state.DRS, account, 1)
	arn := "arn:aws:drs:" + region + ":" + account + ":source-server/" + id
	_, err := w.drs(w.admin).TagResource(ctx, &sdkdrs.TagResourceInput{ResourceArn: &arn, Tags: map[string]string{"very": "secret"}})
	require.NoError(t, err)
	require.JSONEq(t, `{"resourceArn":"`+arn+`","tags":"HIDDEN_DUE_TO_SECURITY_REASONS"}`, string(w.trail.of(t, "TagResource").RequestParameters))
	_, err = w.drs(w.admin).UntagResource(ctx, &sdkdrs.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"very"}})
	require.NoError(t, err)
	_, err = w.drs(w.admin).CreateReplicationConfigurationTemplate(ctx, &sdkdrs.CreateReplicationConfigurationTemplateInput{
		StagingAreaSubnetId: aws.String("subnet-00000000000000001"), AssociateDefaultSecurityGroup: aws.Bool(true), BandwidthThrottling: 7,
		CreatePublicIP: aws.Bool(true), DataPlaneRouting: "PUBLIC_IP", DefaultLargeStagingDiskType: "GP3", EbsEncryption: "DEFAULT",
		ReplicationServerInstanceType: aws.String("m5.large"), ReplicationServersSecurityGroupsIDs: []string{}, StagingAreaTags: map[string]string{"a": "very"},
		UseDedicatedReplicationServer: aws.Bool(true), PitPolicy: []drstypes.PITPolicyRule{
			{Units: drstypes.PITPolicyRuleUnitsMinute, Interval: aws.Int32(10), RetentionDuration: aws.Int32(60), RuleID: 1},
			{Units: drstypes.PITPolicyRuleUnitsHour, Interval: aws.Int32(1), RetentionDuration: aws.Int32(24), RuleID: 2},
			{Units: drstypes.PITPolicyRuleUnitsDay, Interval: aws.Int32(1), RetentionDuration: aws.Int32(7), RuleID: 3}},
	})
	require.NoError(t, err)
	r := w.trail.of(t, "CreateReplicationConfigurationTemplate")
	var answer map[string]any
	require.NoError(t, json.Unmarshal(r.ResponseElements, &answer))
	require.Contains(t, answer["replicationConfigurationTemplateID"], "rct-")
	all, err := json.Marshal(w.trail.records)
	require.NoError(t, err)
	require.NotContains(t, string(all), "very")
	require.NotContains(t, string(all), w.admin.Secret)
}

func TestRecordOfARead(t *testing.T) {
	w, ctx := initialized(t)
	w.add(state.DRS, account, 1)
	_, err := w.drs(w.user).DescribeSourceServers(ctx, &sdkdrs.DescribeSourceServersInput{MaxResults: aws.Int32(3)})
	require.NoError(t, err)
	r := w.trail.of(t, "DescribeSourceServers")
	require.True(t, r.ReadOnly)
	require.Empty(t, r.ErrorCode)
	require.Nil(t, r.ResponseElements)
	require.JSONEq(t, `{"maxResults":3}`, string(r.RequestParameters))
	require.Zero(t, w.trail.waited["DescribeSourceServers"], "nobody waits for the disk to look at something")
}

func TestRecordOfAMountedService(t *testing.T) {
	w, _ := initialized(t)
	w.endpoint.Mount("understudy", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if err := w.endpoint.Authorize(r.Context(), "understudy:CreateWebhook"); err != nil {
			rw.WriteHeader(http.StatusForbidden)
			return
		}
		rw.Header().Set("X-Amzn-Errortype", "Busy")
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(http.StatusServiceUnavailable)
	}))
	w.do(t, "understudy", http.MethodPost, "/understudy/v1/webhooks?x=1", `{"url":"https://a"}`, nil)
	r := w.trail.of(t, "CreateWebhook")
	require.Equal(t, "Busy", r.ErrorCode)
	require.Equal(t, "understudy.amazonaws.com", r.EventSource)
	require.JSONEq(t, `{"url":"https://a","x":"1"}`, string(r.RequestParameters))
	require.Equal(t, map[string]any{"path": "/understudy/v1/webhooks"}, r.AdditionalData)
}

// TestNoRecordOfNobody: who cannot prove who they are does not fill the log.
func TestNoRecordOfNobody(t *testing.T) {
	w, ctx := initialized(t)
	before := len(w.trail.records)
	forged := w.user
	forged.Secret = "not it"
	_, err := w.drs(forged).DescribeSourceServers(ctx, &sdkdrs.DescribeSourceServersInput{})
	require.Error(t, err)
	require.Len(t, w.trail.records, before)
	require.Contains(t, w.log.String(), `msg="request refused"`)
}
