package hostnets

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

func TestDefault(t *testing.T) {
	c, err := Default()
	require.NoError(t, err)
	again, err := Default()
	require.NoError(t, err)
	require.Equal(t, c, again, "ids are the same at every start")
	open, n := c.First(false)
	require.Equal(t, "default", open.Attach)
	require.Equal(t, n.ID, open.Network)
	closed, n := c.First(true)
	require.True(t, n.Isolated)
	require.NotEqual(t, open.ID, closed.ID)
	got, in, ok := c.Subnet(closed.ID)
	require.True(t, ok)
	require.Equal(t, closed, got)
	require.Equal(t, n.ID, in.ID)
	_, _, ok = c.Subnet("subnet-none")
	require.False(t, ok)
	require.Len(t, c.Subnets(), 2)
	require.Len(t, c.Groups(), 2, "every network has its default group")
	require.Regexp(t, `^subnet-[0-9a-f]{17}$`, open.ID)
}

func TestParse(t *testing.T) {
	c, err := Parse([]byte(`{"networks":[{"id":"vpc-0123456789abcdef0","name":"lab","cidr":"10.0.0.0/16","subnets":[
		{"id":"subnet-12345678","name":"web","cidr":"10.0.1.0/24","attach":"bridge:br0","zone":"host-1","tags":{"Name":"web"}}],
		"securityGroups":[{"name":"web","description":"web","ingress":[{"protocol":"tcp","from":443,"to":443,"cidrs":["0.0.0.0/0"]}]}]}]}`))
	require.NoError(t, err)
	s, n, ok := c.Subnet("subnet-12345678")
	require.True(t, ok)
	require.Equal(t, "bridge:br0", s.Attach)
	require.Equal(t, "vpc-0123456789abcdef0", n.ID)
	require.Len(t, c.Groups(), 2)
	_, first := c.First(true)
	require.Equal(t, n.ID, first.ID, "without an isolated network there is only this one")

	for _, bad := range []string{
		``, `{}`, `{"networks":[]}`, `{"nets":[]}`,
		`{"networks":[{"name":"a","cidr":"10.0.0.0/16"}]}`,
		`{"networks":[{"name":"a","cidr":"10.0.0.0","subnets":[{"name":"s","cidr":"10.0.0.0/24","attach":"x"}]}]}`,
		`{"networks":[{"name":"a","cidr":"10.0.0.0/16","subnets":[{"name":"s","cidr":"10.1.0.0/24","attach":"x"}]}]}`,
		`{"networks":[{"name":"a","cidr":"10.0.0.0/16","subnets":[{"name":"s","cidr":"10.0.0.0/8","attach":"x"}]}]}`,
		`{"networks":[{"name":"a","cidr":"10.0.0.0/16","subnets":[{"name":"s","cidr":"10.0.0.0/24"}]}]}`,
		`{"networks":[{"id":"subnet-12345678","name":"a","cidr":"10.0.0.0/16","subnets":[{"name":"s","cidr":"10.0.0.0/24","attach":"x"}]}]}`,
		`{"networks":[{"name":"a","cidr":"10.0.0.0/16","subnets":[{"name":"s","cidr":"10.0.0.0/24","attach":"x"},{"name":"s","cidr":"10.0.0.0/24","attach":"x"}]}]}`,
		`{"networks":[{"name":"a","cidr":"10.0.0.0/16","subnets":[{"name":"s","cidr":"10.0.0.0/24","attach":"x"}],"securityGroups":[{"name":""}]}]}`,
		`{"networks":[{"name":"a","cidr":"10.0.0.0/16","subnets":[{"name":"s","cidr":"10.0.0.0/24","attach":"x"}],"securityGroups":[{"name":"g","ingress":[{"protocol":"sctp"}]}]}]}`,
		`{"networks":[{"name":"a","cidr":"10.0.0.0/16","subnets":[{"name":"s","cidr":"10.0.0.0/24","attach":"x"}],"securityGroups":[{"name":"g","ingress":[{"protocol":"tcp","from":2,"to":1}]}]}]}`,
		`{"networks":[{"name":"a","cidr":"10.0.0.0/16","subnets":[{"name":"s","cidr":"10.0.0.0/24","attach":"x"}],"securityGroups":[{"name":"g","ingress":[{"protocol":"tcp","cidrs":["all"]}]}]}]}`,
	} {
		_, err := Parse([]byte(bad))
		require.True(t, fault.Is(err, fault.Invalid), "%s: %v", bad, err)
	}
}
