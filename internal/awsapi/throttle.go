package awsapi

import (
	"context"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/understudy-dr/understudy/internal/control"
	"github.com/understudy-dr/understudy/internal/control/quotas"
	"github.com/understudy-dr/understudy/internal/fault"
)

// Rates are how many requests of each class an account may send in a second, by the class's quota code. A
// class without a rate is not throttled. The bucket holds ten seconds' worth.
type Rates map[quotas.Code]int64

const burstSeconds = 10

// classOf is the class of an action: what starts machines, what only reads, and the rest.
func classOf(action string) quotas.Code {
	_, name, _ := strings.Cut(action, ":")
	switch name {
	case "StartRecovery", "StartTest", "StartCutover", "StartFailbackLaunch", "StartSourceNetworkRecovery", "TerminateRecoveryInstances",
		"TerminateTargetInstances":
		return quotas.LaunchRate
	case "RegisterAgent":
		return quotas.RegisterRate
	}
	for _, verb := range []string{"Describe", "Get", "List"} {
		if strings.HasPrefix(name, verb) {
			return quotas.ReadRate
		}
	}
	return quotas.WriteRate
}

// throttle holds a token bucket for every account and class.
type throttle struct {
	rates Rates
	now   func() time.Time

	mu      sync.Mutex
	buckets map[bucketKey]*rate.Limiter
}

type bucketKey struct {
	account string
	class   quotas.Code
}

func newThrottle(rates Rates, now func() time.Time) *throttle {
	return &throttle{rates: rates, now: now, buckets: map[bucketKey]*rate.Limiter{}}
}

// admit takes a token from the account's bucket. The account's own rate goes before the installation's.
func (t *throttle) admit(ctx context.Context, action string) error {
	p := entryFrom(ctx).principal
	class := classOf(action)
	perSecond, ok := p.Quotas[string(class)]
	if !ok {
		perSecond, ok = t.rates[class]
	}
	if !ok {
		return nil
	}
	now := t.now()
	r := t.bucket(p.Account, class, perSecond, now).ReserveN(now, 1)
	if wait := r.DelayFrom(now); !r.OK() || wait > 0 {
		r.CancelAt(now)
		return fault.New(fault.Transient, "", "%w", &control.ThrottleError{Quota: string(class), Wait: min(max(wait, time.Second), time.Minute)})
	}
	return nil
}

// bucket is the bucket of an account and class, at the rate that holds now.
func (t *throttle) bucket(account string, class quotas.Code, perSecond int64, now time.Time) *rate.Limiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := bucketKey{account, class}
	b, ok := t.buckets[key]
	if !ok {
		b = rate.NewLimiter(rate.Limit(perSecond), int(perSecond)*burstSeconds)
		t.buckets[key] = b
	}
	if b.Limit() != rate.Limit(perSecond) {
		b.SetLimitAt(now, rate.Limit(perSecond))
		b.SetBurstAt(now, int(perSecond)*burstSeconds)
	}
	return b
}
