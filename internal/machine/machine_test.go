package machine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/understudy-dr/understudy/internal/fault"
)

// made is a machine of these files.
func made(t *testing.T, files map[string]string) Machine {
	t.Helper()
	t.Setenv(IDFileVariable, "")
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	return At(root)
}

const (
	id   = "0123456789abcdef0123456789abcdef"
	uuid = "4C4C4544-0042-3510-8054-B7C04F4B4E32"
)

func identity(t *testing.T, files map[string]string) string {
	t.Helper()
	got, err := made(t, files).Identity()
	require.NoError(t, err)
	return got
}

func TestIdentityFollowsMachineIDAndUUIDAndHidesThem(t *testing.T) {
	one := identity(t, map[string]string{"etc/machine-id": id + "\n", "sys/class/dmi/id/product_uuid": uuid + "\n"})
	require.NotContains(t, one, id)
	require.Len(t, one, 32)
	same := map[string]string{"etc/machine-id": id, "sys/class/dmi/id/product_uuid": "4c4c4544-0042-3510-8054-b7c04f4b4e32",
		"sys/class/net/eth0/address": "52:54:00:00:00:01\n"}
	require.Equal(t, one, identity(t, same), "neither case nor network cards count")
	same["sys/class/net/eth0/address"] = "52:54:00:00:00:02\n"
	require.Equal(t, one, identity(t, same))
	require.NotEqual(t, one, identity(t, map[string]string{"etc/machine-id": "ffff" + id[4:], "sys/class/dmi/id/product_uuid": uuid}))
	require.NotEqual(t, one, identity(t, map[string]string{"etc/machine-id": id, "sys/class/dmi/id/product_uuid": "4C4C4544-0042-3510-8054-000000000000"}))
	require.Equal(t, identity(t, map[string]string{"etc/machine-id": id}),
		identity(t, map[string]string{"etc/machine-id": id, "sys/class/dmi/id/product_uuid": "03000200-0400-0500-0006-000700080009"}), "a placeholder is none")

	for _, none := range []string{"", "\n", "uninitialized\n"} {
		_, err := made(t, map[string]string{"etc/machine-id": none}).Identity()
		require.True(t, fault.Is(err, fault.Unsupported), "%q: %v", none, err)
	}
}

func TestAnotherFileMayHoldTheMachineID(t *testing.T) {
	m := made(t, map[string]string{"etc/machine-id": id})
	one, err := m.Identity()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "id")
	require.NoError(t, os.WriteFile(file, []byte("another"), 0o600))
	t.Setenv(IDFileVariable, file)
	other, err := m.Identity()
	require.NoError(t, err)
	require.NotEqual(t, one, other)
}

func TestPresence(t *testing.T) {
	m := made(t, map[string]string{"etc/machine-id": id, "proc/sys/kernel/random/boot_id": "b-1\n"})
	p, err := m.Presence([]string{"wwn-2", "", "wwn-1", "wwn-2"})
	require.NoError(t, err)
	require.Equal(t, "b-1", p.Boot)
	require.Positive(t, p.Up)
	require.Len(t, p.Disks, 2, "disks without a name say nothing")
	again, err := m.Presence([]string{"wwn-1", "wwn-2"})
	require.NoError(t, err)
	require.Equal(t, p.Disks, again.Disks, "in whatever order they were found")
	require.NotContains(t, p.Disks, "wwn-1")
}

func TestFactsAreThisMachines(t *testing.T) {
	f := Here().Facts(t.Context())
	require.NotEmpty(t, f.Hostname)
	require.Contains(t, f.OS, "Linux version")
	require.NotEmpty(t, f.CPUs)
	require.Greater(t, f.RAMBytes, uint64(64<<20))
	require.Empty(t, f.VMWareUUID)
}

func TestProcessorsAreCountedBySocket(t *testing.T) {
	cpu := func(socket string) string {
		return "processor\t: 0\nmodel name\t: Fast One\nphysical id\t: " + socket + "\n\n"
	}
	m := made(t, map[string]string{"proc/cpuinfo": cpu("0") + cpu("1") + cpu("0") + cpu("0")})
	require.Equal(t, []CPU{{3, "Fast One"}, {1, "Fast One"}}, m.processors())
	m = made(t, map[string]string{"proc/cpuinfo": "processor\t: 0\nBogoMIPS : 50\n\nprocessor\t: 1\nBogoMIPS : 50\n\nHardware : x\n"})
	require.Equal(t, []CPU{{2, ""}}, m.processors())
}

func TestFullName(t *testing.T) {
	m := made(t, map[string]string{"etc/hosts": "127.0.0.1 localhost\n10.0.0.5 db1.prod.example db1 # the database\n"})
	require.Equal(t, "db1.prod.example", m.fullName(t.Context(), "db1"))
	require.Equal(t, "db1.other.example", m.fullName(t.Context(), "db1.other.example"))
	require.Empty(t, m.fullName(t.Context(), ""))
}

func TestHintsOfTheFirmware(t *testing.T) {
	m := made(t, map[string]string{"sys/class/dmi/id/sys_vendor": "VMware, Inc.\n", "sys/class/dmi/id/product_uuid": "564d1a2b-0000-0000-0000-000000000000",
		"sys/class/dmi/id/product_serial": "VMware-56 4d 2c 17 af 37 de 65-16 2c 9f a2 8d 2a 5d 8b\n"})
	require.Equal(t, "564d2c17-af37-de65-162c-9fa28d2a5d8b", m.vmwareUUID())
	m = made(t, map[string]string{"sys/class/dmi/id/sys_vendor": "VMware, Inc.", "sys/class/dmi/id/product_uuid": uuid, "sys/class/dmi/id/product_serial": "none"})
	require.Equal(t, "4c4c4544-0042-3510-8054-b7c04f4b4e32", m.vmwareUUID())
	m = made(t, map[string]string{"sys/class/dmi/id/sys_vendor": "Amazon EC2", "sys/class/dmi/id/board_asset_tag": "i-0123456789abcdef0\n"})
	require.Equal(t, "i-0123456789abcdef0", m.awsInstanceID())
	require.Empty(t, m.vmwareUUID())
	m = made(t, map[string]string{"sys/class/dmi/id/sys_vendor": "QEMU", "sys/class/dmi/id/board_asset_tag": "i-0123456789abcdef0"})
	require.Empty(t, m.awsInstanceID())
}

func TestTheDefaultRouteMayBeIPv6(t *testing.T) {
	zero := "00000000000000000000000000000000"
	m := made(t, map[string]string{"proc/net/ipv6_route": zero + " 00 " + zero + " 00 " + zero + " ffffffff 1 0 00200200 lo\n" +
		zero + " 00 " + zero + " 00 fe80000000000000 00000400 1 0 00000003 ens3\n"})
	require.Equal(t, "ens3", m.defaultRoute())
}
