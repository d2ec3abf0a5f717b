#!/bin/sh
# Makes sure that there are Patroni and etcd: the tests of e2e/patroni start a
# cluster of their own with them. Those tests run on Linux only.
set -eu
[ "$(uname -s)" = Linux ] || exit 0
have() { command -v patroni >/dev/null && command -v etcd >/dev/null; }
have && exit
as_root=
if [ "$(id -u)" != 0 ]; then
	as_root='sudo -n'
fi
if command -v apt-get >/dev/null && $as_root true 2>/dev/null; then
	echo 'patroni.sh: installing patroni and etcd-server with apt-get' >&2
	# Debian starts services that it installs, unless this program forbids it.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e $policy ]; then
		trap '$as_root rm -f $policy' EXIT
		trap 'exit 1' HUP INT TERM
		printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
		$as_root chmod 755 $policy
	fi
	$as_root apt-get update -qq >&2
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends patroni etcd-server >/dev/null
	# Nor are they to start with the machine.
	if [ -d /run/systemd/system ]; then
		$as_root systemctl disable --quiet etcd patroni || : # one may have no unit
	fi
fi
have || {
	echo 'patroni.sh: the tests need patroni and etcd: install the packages patroni and etcd-server (Debian), or put both on PATH' >&2
	exit 1
}
