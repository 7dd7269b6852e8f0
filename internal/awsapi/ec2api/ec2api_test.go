package ec2api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/api/conformance"
	"github.com/understudy-dr/understudy/internal/awsapi"
	"github.com/understudy-dr/understudy/internal/awsapi/ec2api"
	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/access"
	"github.com/understudy-dr/understudy/internal/control/accounts"
	"github.com/understudy-dr/understudy/internal/control/hostnets"
	"github.com/understudy-dr/understudy/internal/control/launchtemplates"
	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/control/sizes"
	"github.com/understudy-dr/understudy/internal/state/sqlite"
)

const (
	account = "111122223333"
	region  = "us-east-1"
)

type machines []ec2api.Machine

func (m machines) Machines(_ context.Context, of string) ([]ec2api.Machine, error) {
	if of != account {
		return nil, nil
	}
	return m, nil
}

type world struct {
	keys      *access.Keys
	templates *launchtemplates.Templates
	networks  *hostnets.Catalogue
	api       *ec2api.API
	server    *httptest.Server
}

func setup(t *testing.T, rates awsapi.Rates) *world {
	t.Helper()
	dir := t.TempDir()
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	w := &world{}
	w.keys, err = access.Open(store, dir)
	require.NoError(t, err)
	catalogue, err := sizes.Default()
	require.NoError(t, err)
	w.networks, err = hostnets.Default()
	require.NoError(t, err)
	w.templates = launchtemplates.New(store, catalogue)
	log := slog.New(slog.DiscardHandler)
	h := awsapi.New(awsapi.Config{Region: region, Access: w.keys, Accounts: accounts.New(store), Log: log, Rates: rates})
	w.api = &ec2api.API{Templates: w.templates, Sizes: catalogue, Networks: w.networks, Authorize: h.Authorize, Region: region, Log: log}
	h.Mount(ec2api.Name, w.api)
	w.server = httptest.NewTLSServer(h)
	t.Cleanup(w.server.Close)
	return w
}

func (w *world) key(t *testing.T, account, user string) control.AccessKey {
	t.Helper()
	k, err := w.keys.Create(t.Context(), account, user, false)
	require.NoError(t, err)
	return k
}

func (w *world) client(k control.AccessKey) *ec2.Client {
	return ec2.New(ec2.Options{Region: region, BaseEndpoint: &w.server.URL, HTTPClient: conformance.Client(w.server.Client()), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(k.ID, k.Secret, k.Token)})
}

func code(err error) string {
	if e, ok := errors.AsType[interface {
		error
		ErrorCode() string
	}](err); ok {
		return e.ErrorCode()
	}
	return ""
}

// everything sets every member that is kept, each to something of its own.
func everything() *types.RequestLaunchTemplateData {
	return &types.RequestLaunchTemplateData{
		ImageId: new("ami-1"), InstanceType: types.InstanceTypeM5Large, KeyName: new("key"), KernelId: new("aki-1"), RamDiskId: new("ari-1"),
		UserData: new("IyEvYmluL3No"), InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorStop,
		EbsOptimized: new(true), DisableApiTermination: new(false), DisableApiStop: new(true),
		IamInstanceProfile: &types.LaunchTemplateIamInstanceProfileSpecificationRequest{Arn: new("arn:aws:iam::1:instance-profile/p"), Name: new("p")},
		BlockDeviceMappings: []types.LaunchTemplateBlockDeviceMappingRequest{{DeviceName: new("/dev/sda"), VirtualName: new("ephemeral0"), NoDevice: new("x"),
			Ebs: &types.LaunchTemplateEbsBlockDeviceRequest{Encrypted: new(true), DeleteOnTermination: new(false), Iops: new(int32(3000)), Throughput: new(int32(125)),
				VolumeSize: new(int32(20)), VolumeType: types.VolumeTypeGp3, KmsKeyId: new("k"), SnapshotId: new("snap-1")}},
			{DeviceName: new("/dev/sdb"), Ebs: &types.LaunchTemplateEbsBlockDeviceRequest{VolumeSize: new(int32(1))}}},
		NetworkInterfaces: []types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{{DeviceIndex: new(int32(0)), NetworkCardIndex: new(int32(1)),
			SubnetId: new("subnet-1"), NetworkInterfaceId: new("eni-1"), Description: new("d <&> \u00e9"), InterfaceType: new("interface"),
			Groups: []string{"sg-1", "sg-2"}, PrivateIpAddress: new("10.0.0.5"),
			PrivateIpAddresses:             []types.PrivateIpAddressSpecification{{PrivateIpAddress: new("10.0.0.5"), Primary: new(true)}, {PrivateIpAddress: new("10.0.0.6")}},
			SecondaryPrivateIpAddressCount: new(int32(2)), Ipv6AddressCount: new(int32(1)), Ipv6Addresses: []types.InstanceIpv6AddressRequest{{Ipv6Address: new("::1")}},
			AssociatePublicIpAddress: new(true), DeleteOnTermination: new(true)}},
		TagSpecifications: []types.LaunchTemplateTagSpecificationRequest{{ResourceType: types.ResourceTypeInstance,
			Tags: []types.Tag{{Key: new("b"), Value: new("1")}, {Key: new("a"), Value: new("2")}}}, {ResourceType: types.ResourceTypeVolume, Tags: []types.Tag{{Key: new("c"), Value: new("3")}}}},
		Monitoring: &types.LaunchTemplatesMonitoringRequest{Enabled: new(true)},
		Placement: &types.LaunchTemplatePlacementRequest{AvailabilityZone: new("z"), AvailabilityZoneId: new("zi"), Affinity: new("host"), GroupId: new("pg-1"), GroupName: new("g"),
			HostId: new("h-1"), HostResourceGroupArn: new("arn:x"), Tenancy: types.TenancyHost, SpreadDomain: new("s"), PartitionNumber: new(int32(3))},
		CpuOptions:            &types.LaunchTemplateCpuOptionsRequest{CoreCount: new(int32(2)), ThreadsPerCore: new(int32(1)), AmdSevSnp: types.AmdSevSnpSpecificationEnabled},
		CreditSpecification:   &types.CreditSpecificationRequest{CpuCredits: new("standard")},
		MetadataOptions:       &types.LaunchTemplateInstanceMetadataOptionsRequest{HttpEndpoint: "enabled", HttpTokens: "required", HttpProtocolIpv6: "disabled", InstanceMetadataTags: "enabled", HttpPutResponseHopLimit: new(int32(2))},
		LicenseSpecifications: []types.LaunchTemplateLicenseConfigurationRequest{{LicenseConfigurationArn: new("arn:l")}},
		EnclaveOptions:        &types.LaunchTemplateEnclaveOptionsRequest{Enabled: new(false)},
		HibernationOptions:    &types.LaunchTemplateHibernationOptionsRequest{Configured: new(true)},
		MaintenanceOptions:    &types.LaunchTemplateInstanceMaintenanceOptionsRequest{AutoRecovery: "default"},
		PrivateDnsNameOptions: &types.LaunchTemplatePrivateDnsNameOptionsRequest{HostnameType: "ip-name", EnableResourceNameDnsARecord: new(true), EnableResourceNameDnsAAAARecord: new(false)},
	}
}

// asJSON compares what was asked with what is answered: the types differ, the names do not.
func asJSON(t *testing.T, v any) map[string]any {
	t.Helper()
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	out := map[string]any{}
	require.NoError(t, json.Unmarshal(raw, &out))
	return clean(out).(map[string]any)
}

func clean(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if e = clean(e); e == nil || e == "" || fmt.Sprint(e) == "map[]" || k == "ResultMetadata" {
				delete(v, k)
			}
		}
	case []any:
		for _, e := range v {
			clean(e)
		}
	}
	return v
}

func TestEveryMemberComesBack(t *testing.T) {
	w := setup(t, nil)
	c := w.client(w.key(t, account, "ann"))
	ctx := t.Context()
	made, err := c.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{LaunchTemplateName: new("all"), LaunchTemplateData: everything()})
	require.NoError(t, err)
	out, err := c.DescribeLaunchTemplateVersions(ctx, &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: made.LaunchTemplate.LaunchTemplateId})
	require.NoError(t, err)
	require.Len(t, out.LaunchTemplateVersions, 1)
	require.Equal(t, asJSON(t, everything()), asJSON(t, out.LaunchTemplateVersions[0].LaunchTemplateData))
	require.Equal(t, "arn:aws:iam::"+account+":user/ann", *out.LaunchTemplateVersions[0].CreatedBy)
	require.WithinDuration(t, time.Now(), *out.LaunchTemplateVersions[0].CreateTime, time.Minute)

	groups := &types.RequestLaunchTemplateData{SecurityGroupIds: []string{"sg-1", "sg-2"}, SecurityGroups: []string{"web"}}
	v, err := c.CreateLaunchTemplateVersion(ctx, &ec2.CreateLaunchTemplateVersionInput{LaunchTemplateName: new("all"), LaunchTemplateData: groups})
	require.NoError(t, err)
	require.Equal(t, asJSON(t, groups), asJSON(t, v.LaunchTemplateVersion.LaunchTemplateData))
}

// The walk that automation for MGN takes: read the default version, change it, make the change the default.
func TestEditALaunchTemplate(t *testing.T) {
	w := setup(t, nil)
	c := w.client(w.key(t, account, "ann"))
	ctx := t.Context()
	made, err := c.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{LaunchTemplateName: new("web"), VersionDescription: new("first"),
		LaunchTemplateData: &types.RequestLaunchTemplateData{InstanceType: types.InstanceTypeM5Large},
		TagSpecifications:  []types.TagSpecification{{ResourceType: types.ResourceTypeLaunchTemplate, Tags: []types.Tag{{Key: new("Env"), Value: new("prod")}}}}})
	require.NoError(t, err)
	id := made.LaunchTemplate.LaunchTemplateId
	require.Equal(t, []types.Tag{{Key: new("Env"), Value: new("prod")}}, made.LaunchTemplate.Tags)

	in := &ec2.CreateLaunchTemplateVersionInput{LaunchTemplateId: id, SourceVersion: new("1"), VersionDescription: new("second"), ClientToken: new("once"),
		LaunchTemplateData: &types.RequestLaunchTemplateData{KeyName: new("k")}}
	for range 2 { // as a client that missed the first answer
		v, err := c.CreateLaunchTemplateVersion(ctx, in)
		require.NoError(t, err)
		require.Equal(t, int64(2), *v.LaunchTemplateVersion.VersionNumber)
		require.False(t, *v.LaunchTemplateVersion.DefaultVersion)
		require.Equal(t, types.InstanceTypeM5Large, v.LaunchTemplateVersion.LaunchTemplateData.InstanceType)
	}
	t2, err := c.ModifyLaunchTemplate(ctx, &ec2.ModifyLaunchTemplateInput{LaunchTemplateId: id, DefaultVersion: new("2")})
	require.NoError(t, err)
	require.Equal(t, []int64{2, 2}, []int64{*t2.LaunchTemplate.DefaultVersionNumber, *t2.LaunchTemplate.LatestVersionNumber})
	for range 3 {
		_, err = c.CreateLaunchTemplateVersion(ctx, &ec2.CreateLaunchTemplateVersionInput{LaunchTemplateId: id, LaunchTemplateData: &types.RequestLaunchTemplateData{}})
		require.NoError(t, err)
	}

	numbers := func(in *ec2.DescribeLaunchTemplateVersionsInput) (out []int64) {
		t.Helper()
		p := ec2.NewDescribeLaunchTemplateVersionsPaginator(c, in)
		for p.HasMorePages() {
			page, err := p.NextPage(ctx)
			require.NoError(t, err)
			for _, v := range page.LaunchTemplateVersions {
				out = append(out, *v.VersionNumber)
			}
		}
		return out
	}
	require.Equal(t, []int64{5, 4, 3, 2, 1}, numbers(&ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: id, MaxResults: new(int32(2))}))
	require.Equal(t, []int64{4, 3, 2}, numbers(&ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: id, MinVersion: new("2"), MaxVersion: new("4"), MaxResults: new(int32(2))}))
	require.Equal(t, []int64{2, 5, 1}, numbers(&ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: new("web"), Versions: []string{"$Default", "$Latest", "1"}}))
	require.Equal(t, []int64{2}, numbers(&ec2.DescribeLaunchTemplateVersionsInput{Versions: []string{"$Default"}}), "of all templates")

	_, err = c.DeleteLaunchTemplate(ctx, &ec2.DeleteLaunchTemplateInput{LaunchTemplateId: id})
	require.NoError(t, err)
	_, err = c.DeleteLaunchTemplate(ctx, &ec2.DeleteLaunchTemplateInput{LaunchTemplateId: id})
	require.Equal(t, "InvalidLaunchTemplateId.NotFound", code(err))
}

func TestDescribeLaunchTemplates(t *testing.T) {
	w := setup(t, nil)
	c := w.client(w.key(t, account, "ann"))
	ctx := t.Context()
	for i := range 5 {
		env := []string{"prod", "dev"}[i%2]
		_, err := c.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{LaunchTemplateName: new(fmt.Sprint("web-", i)), LaunchTemplateData: &types.RequestLaunchTemplateData{},
			TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeLaunchTemplate, Tags: []types.Tag{{Key: new("Env"), Value: &env}}}}})
		require.NoError(t, err)
	}
	list := func(in *ec2.DescribeLaunchTemplatesInput) (out []string) {
		t.Helper()
		p := ec2.NewDescribeLaunchTemplatesPaginator(c, in)
		for p.HasMorePages() {
			page, err := p.NextPage(ctx)
			require.NoError(t, err)
			for _, v := range page.LaunchTemplates {
				out = append(out, *v.LaunchTemplateName)
			}
		}
		return out
	}
	filter := func(name string, values ...string) []types.Filter {
		return []types.Filter{{Name: &name, Values: values}}
	}
	require.Equal(t, []string{"web-0", "web-1", "web-2", "web-3", "web-4"}, list(&ec2.DescribeLaunchTemplatesInput{MaxResults: new(int32(2))}))
	require.Equal(t, []string{"web-1", "web-3"}, list(&ec2.DescribeLaunchTemplatesInput{MaxResults: new(int32(1)), Filters: filter("tag:Env", "dev")}))
	require.Equal(t, []string{"web-2", "web-4"}, list(&ec2.DescribeLaunchTemplatesInput{Filters: filter("launch-template-name", "*-2", "web-4")}))
	require.Equal(t, []string{"web-3"}, list(&ec2.DescribeLaunchTemplatesInput{LaunchTemplateNames: []string{"web-3"}}))
	for want, in := range map[string]*ec2.DescribeLaunchTemplatesInput{
		"InvalidLaunchTemplateName.NotFoundException": {LaunchTemplateNames: []string{"web-3", "none"}},
		"InvalidLaunchTemplateId.NotFound":            {LaunchTemplateIds: []string{"lt-00000000000000000"}},
		"InvalidNextToken":                            {NextToken: new("!")},
		"InvalidParameterValue":                       {Filters: filter("colour", "red")},
	} {
		_, err := c.DescribeLaunchTemplates(ctx, in)
		require.Equal(t, want, code(err), "%v", err)
	}
	stranger := w.client(w.key(t, "444455556666", "eve"))
	out, err := stranger.DescribeLaunchTemplates(ctx, &ec2.DescribeLaunchTemplatesInput{})
	require.NoError(t, err)
	require.Empty(t, out.LaunchTemplates)
	_, err = stranger.ModifyLaunchTemplate(ctx, &ec2.ModifyLaunchTemplateInput{LaunchTemplateName: new("web-0"), DefaultVersion: new("1")})
	require.Equal(t, "InvalidLaunchTemplateName.NotFoundException", code(err))
}

func TestRefusals(t *testing.T) {
	w := setup(t, nil)
	key := w.key(t, account, "ann")
	c := w.client(key)
	ctx := t.Context()
	_, err := c.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{LaunchTemplateName: new("web"), LaunchTemplateData: &types.RequestLaunchTemplateData{}})
	require.NoError(t, err)
	create := func(in *ec2.CreateLaunchTemplateInput) string {
		if in.LaunchTemplateData == nil {
			in.LaunchTemplateData = &types.RequestLaunchTemplateData{}
		}
		_, err := c.CreateLaunchTemplate(ctx, in)
		return code(err)
	}
	require.Equal(t, "InvalidLaunchTemplateName.AlreadyExistsException", create(&ec2.CreateLaunchTemplateInput{LaunchTemplateName: new("web")}))
	require.Equal(t, "InvalidParameterValue", create(&ec2.CreateLaunchTemplateInput{LaunchTemplateName: new("x")}))
	require.Equal(t, "InvalidParameterValue", create(&ec2.CreateLaunchTemplateInput{LaunchTemplateName: new("web2"), LaunchTemplateData: &types.RequestLaunchTemplateData{InstanceType: "huge"}}))
	require.Equal(t, "UnsupportedOperation", create(&ec2.CreateLaunchTemplateInput{LaunchTemplateName: new("web2"), LaunchTemplateData: &types.RequestLaunchTemplateData{
		InstanceMarketOptions: &types.LaunchTemplateInstanceMarketOptionsRequest{MarketType: types.MarketTypeSpot}}}), "what no launch would follow is refused")
	require.Equal(t, "DryRunOperation", create(&ec2.CreateLaunchTemplateInput{LaunchTemplateName: new("web2"), DryRun: new(true)}))
	_, err = c.ModifyLaunchTemplate(ctx, &ec2.ModifyLaunchTemplateInput{LaunchTemplateName: new("web"), DefaultVersion: new("7")})
	require.Equal(t, "InvalidLaunchTemplateId.VersionNotFound", code(err))
	_, err = c.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
	require.Equal(t, "InvalidAction", code(err))

	bad := key
	bad.Secret = "x"
	_, err = w.client(bad).DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{})
	require.Equal(t, "SignatureDoesNotMatch", code(err))
	bad.ID = "AKIANOBODYNOBODYNOBO"
	_, err = w.client(bad).DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{})
	require.Equal(t, "AuthFailure", code(err))
}

func TestPolicies(t *testing.T) {
	w := setup(t, awsapi.Rates{quotas.ReadRate: 1})
	ctx := t.Context()
	key := w.key(t, account, "ann")
	c := w.client(key)
	for _, name := range []string{"prod", "dev"} {
		_, err := c.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{LaunchTemplateName: &name, LaunchTemplateData: &types.RequestLaunchTemplateData{},
			TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeLaunchTemplate, Tags: []types.Tag{{Key: new("Env"), Value: &name}}}}})
		require.NoError(t, err)
	}
	_, err := w.keys.PutPolicy(ctx, account, "own", `{"Statement":[{"Effect":"Allow","Action":"ec2:*","Resource":"arn:aws:ec2:*:*:launch-template/*",
		"Condition":{"StringEquals":{"aws:ResourceTag/Env":"dev"}}},{"Effect":"Allow","Action":"ec2:DescribeSubnets","Resource":"*"}]}`)
	require.NoError(t, err)
	_, err = w.keys.SetUserPolicies(ctx, account, "ann", []string{"own"})
	require.NoError(t, err)
	modify := func(name string) error {
		_, err := c.ModifyLaunchTemplate(ctx, &ec2.ModifyLaunchTemplateInput{LaunchTemplateName: &name, DefaultVersion: new("1")})
		return err
	}
	require.NoError(t, modify("dev"))
	require.Equal(t, "UnauthorizedOperation", code(modify("prod")))
	require.Equal(t, "UnauthorizedOperation", code(modify("none")), "who may not change it is not told that it does not exist")
	_, err = c.DescribeLaunchTemplates(ctx, &ec2.DescribeLaunchTemplatesInput{})
	require.ErrorContains(t, err, "You are not authorized to perform this operation. User: arn:aws:iam::"+account+":user/ann is not authorized to perform: ec2:DescribeLaunchTemplates")

	for range 11 {
		_, err = c.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{})
	}
	require.Equal(t, "RequestLimitExceeded", code(err))
}

func TestDescribeInstances(t *testing.T) {
	w := setup(t, nil)
	c := w.client(w.key(t, account, "ann"))
	ctx := t.Context()
	out, err := c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{})
	require.NoError(t, err)
	require.Empty(t, out.Reservations, "nothing is launched")
	_, err = c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{"i-0123456789abcdef0"}})
	require.Equal(t, "InvalidInstanceID.NotFound", code(err))

	net, _ := w.networks.First(false)
	w.api.Machines = machines{
		{ID: "i-0000000000000000a", Type: "m5.large", Architecture: sizes.X86, State: "running", SubnetID: net.ID, PrivateIP: "192.168.122.5", MAC: "52:54:00:00:00:01",
			Groups: []string{w.networks.Groups()[0].ID}, LaunchedAt: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), Tags: map[string]string{"Name": "web"}},
		{ID: "i-0000000000000000b", Type: "t3.small", Architecture: sizes.X86, State: "stopped"},
	}
	out, err = c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: []types.Filter{{Name: new("instance-state-name"), Values: []string{"running"}}}})
	require.NoError(t, err)
	require.Len(t, out.Reservations, 1)
	got := out.Reservations[0].Instances[0]
	require.Equal(t, types.InstanceState{Code: new(int32(16)), Name: types.InstanceStateNameRunning}, *got.State)
	require.Equal(t, []string{"i-0000000000000000a", "192.168.122.5", net.ID, net.Network}, []string{*got.InstanceId, *got.PrivateIpAddress, *got.SubnetId, *got.VpcId})
	require.Equal(t, "default", *got.SecurityGroups[0].GroupName)
	require.Equal(t, "52:54:00:00:00:01", *got.NetworkInterfaces[0].MacAddress)
	require.Equal(t, region+"a", *got.Placement.AvailabilityZone)
	require.Equal(t, []types.Tag{{Key: new("Name"), Value: new("web")}}, got.Tags)
	for name, value := range map[string]string{"tag:Name": "w*", "subnet-id": net.ID, "vpc-id": net.Network, "instance-type": "m5.*", "tag-key": "Name"} {
		out, err = c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: []types.Filter{{Name: &name, Values: []string{value}}}})
		require.NoError(t, err)
		require.Len(t, out.Reservations, 1, name)
	}
	stranger, err := w.client(w.key(t, "444455556666", "eve")).DescribeInstances(ctx, &ec2.DescribeInstancesInput{})
	require.NoError(t, err)
	require.Empty(t, stranger.Reservations)
}

func TestDescribeInstanceTypes(t *testing.T) {
	w := setup(t, nil)
	c := w.client(w.key(t, account, "ann"))
	ctx := t.Context()
	count := 0
	p := ec2.NewDescribeInstanceTypesPaginator(c, &ec2.DescribeInstanceTypesInput{MaxResults: new(int32(50))})
	for p.HasMorePages() {
		page, err := p.NextPage(ctx)
		require.NoError(t, err)
		count += len(page.InstanceTypes)
	}
	require.Equal(t, len(w.api.Sizes.All()), count)
	out, err := c.DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"m5.large", "m9i.large"}})
	require.NoError(t, err)
	require.Len(t, out.InstanceTypes, 2)
	require.Equal(t, int32(2), *out.InstanceTypes[0].VCpuInfo.DefaultVCpus)
	require.Equal(t, int64(8192), *out.InstanceTypes[0].MemoryInfo.SizeInMiB)
	require.Equal(t, []types.ArchitectureType{types.ArchitectureTypeX8664}, out.InstanceTypes[0].ProcessorInfo.SupportedArchitectures)
	out, err = c.DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{Filters: []types.Filter{
		{Name: new("processor-info.supported-architecture"), Values: []string{"arm64"}}, {Name: new("vcpu-info.default-vcpus"), Values: []string{"64"}}}})
	require.NoError(t, err)
	require.Len(t, out.InstanceTypes, 3)
	_, err = c.DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"huge"}})
	require.Equal(t, "InvalidInstanceType", code(err))
}

func TestDescribeNetworks(t *testing.T) {
	w := setup(t, nil)
	c := w.client(w.key(t, account, "ann"))
	ctx := t.Context()
	subnets, err := c.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{})
	require.NoError(t, err)
	require.Len(t, subnets.Subnets, 2)
	first := subnets.Subnets[0]
	require.Equal(t, "192.168.122.0/24", *first.CidrBlock)
	require.Equal(t, []types.Tag{{Key: new("Name"), Value: new("default")}}, first.Tags)
	one, err := c.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{*first.SubnetId}, Filters: []types.Filter{{Name: new("vpc-id"), Values: []string{*first.VpcId}}}})
	require.NoError(t, err)
	require.Len(t, one.Subnets, 1)
	_, err = c.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{"subnet-none"}})
	require.Equal(t, "InvalidSubnetID.NotFound", code(err))

	groups, err := c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupNames: []string{"default"}, Filters: []types.Filter{{Name: new("vpc-id"), Values: []string{*first.VpcId}}}})
	require.NoError(t, err)
	require.Len(t, groups.SecurityGroups, 1)
	require.Equal(t, "-1", aws.ToString(groups.SecurityGroups[0].IpPermissions[0].IpProtocol))
	require.Equal(t, "192.168.122.0/24", aws.ToString(groups.SecurityGroups[0].IpPermissions[0].IpRanges[0].CidrIp))
	_, err = c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{"sg-none"}})
	require.Equal(t, "InvalidGroup.NotFound", code(err))
}
