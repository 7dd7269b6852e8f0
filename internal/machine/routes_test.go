package machine

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRoutes(t *testing.T) {
	m := made(t, map[string]string{"proc/net/route": `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
none0	00000000	0100010A	0003	0	0	0	00000000	0	0	0
none0	0000020A	0200010A	0003	0	0	0	0000FFFF	0	0	0
none0	0000010A	00000000	0001	0	0	0	00FFFFFF	0	0	0
none0	0000030A	0300010A	0002	0	0	0	00FFFFFF	0	0	0
none0	broken
`})
	require.Equal(t, []Route{{"0.0.0.0/0", "10.1.0.1", ""}, {"10.2.0.0/16", "10.1.0.2", ""}}, m.routes(), "those by a router, which are up")
	require.Empty(t, made(t, nil).routes())
}

func TestResolver(t *testing.T) {
	conf := map[string]string{"etc/resolv.conf": "# made by hand\nnameserver 10.1.0.53\nnameserver 10.1.0.54\ndomain old.example\nsearch example corp.example\n"}
	require.Equal(t, Resolver{[]string{"10.1.0.53", "10.1.0.54"}, []string{"example", "corp.example"}}, made(t, conf).resolver())
	stub := map[string]string{"etc/resolv.conf": "nameserver 127.0.0.53\n", "run/systemd/resolve/resolv.conf": "nameserver 10.1.0.55\nsearch corp.example\n"}
	require.Equal(t, Resolver{[]string{"10.1.0.55"}, []string{"corp.example"}}, made(t, stub).resolver(), "whom the machine's own asks")
	delete(stub, "run/systemd/resolve/resolv.conf")
	require.Equal(t, []string{"127.0.0.53"}, made(t, stub).resolver().Servers)
}

func TestPrefixesAreThoseOfTheAddresses(t *testing.T) {
	for _, n := range Here().interfaces() {
		require.Len(t, n.Prefixes, len(n.IPs))
		for i, text := range n.Prefixes {
			p, err := netip.ParsePrefix(text)
			require.NoError(t, err)
			require.Equal(t, n.IPs[i], p.Addr().String())
		}
	}
}
