package serve

import (
	"context"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/understudy-dr/understudy/internal/buckets"
	"github.com/understudy-dr/understudy/internal/control/inventory"
	"github.com/understudy-dr/understudy/internal/control/inventory/transfer"
	"github.com/understudy-dr/understudy/internal/control/launchconfig"
	"github.com/understudy-dr/understudy/internal/fault"
)

// openTransfers makes what imports and exports the inventory. It does nothing before it runs.
func (s *server) openTransfers(ctx context.Context) error {
	files, err := s.openBuckets(ctx)
	if err != nil {
		return err
	}
	s.files = files
	limits := s.facilities.limits
	s.transfers = transfer.New(transfer.Config{Store: s.store, Buckets: files, Region: s.cfg.Region,
		Applications: inventory.NewApplications(s.store, limits), Waves: inventory.NewWaves(s.store, limits), Servers: s.servers,
		LaunchTemplates: s.facilities.templates, LaunchConfigs: launchconfig.NewMGNServers(s.store), Limits: limits, Log: s.cfg.Log})
	return nil
}

// openBuckets finds where users' files are: a directory, or s3://?endpoint=URL&region=REGION&path-style=true&allow=ACCOUNT:BUCKET.
// The credentials are the installation's, so its own account uses what they reach, and others what they are given.
func (s *server) openBuckets(ctx context.Context) (transfer.Buckets, error) {
	const op = "--buckets"
	address := s.cfg.Buckets
	if address == "" {
		return buckets.NewDir(filepath.Join(s.cfg.DataDir, "buckets")), nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "" {
		return buckets.NewDir(address), nil
	}
	if u.Scheme != "s3" || u.Host != "" || u.Path != "" {
		return nil, fault.New(fault.Invalid, op, "%q is neither a directory nor s3://?endpoint=URL", address)
	}
	c, allowed := buckets.S3Config{}, buckets.Allowed{Home: s.cfg.AccountID, Of: map[string][]string{}}
	for name, values := range u.Query() {
		value := values[len(values)-1]
		switch name {
		case "endpoint":
			c.Endpoint = value
		case "region":
			c.Region = value
		case "path-style":
			if c.PathStyle, err = strconv.ParseBool(value); err != nil {
				return nil, fault.New(fault.Invalid, op, "path-style=%q is neither true nor false", value)
			}
		case "allow":
			for _, v := range values {
				account, bucket, ok := strings.Cut(v, ":")
				if !ok || !accountPattern.MatchString(account) || bucket == "" {
					return nil, fault.New(fault.Invalid, op, "allow=%q is not ACCOUNT:BUCKET", v)
				}
				allowed.Of[account] = append(allowed.Of[account], bucket)
			}
		default:
			return nil, fault.New(fault.Invalid, op, "%q is not one of endpoint, region, path-style, allow", name)
		}
	}
	allowed.Store, err = buckets.NewS3(ctx, c)
	return allowed, err
}
