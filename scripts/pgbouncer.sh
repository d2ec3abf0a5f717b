#!/bin/sh
# Makes sure that there is a pgbouncer program: the tests in e2e/pgbouncer start
# poolers of their own with it. No service is started.
set -eu
PATH=$PATH:/usr/sbin:/usr/local/sbin # Debian keeps it there, out of a user's way
have() { command -v pgbouncer >/dev/null; }
have && exit
as_root=
if [ "$(id -u)" != 0 ]; then
	as_root='sudo -n'
fi
if command -v apt-get >/dev/null && $as_root true 2>/dev/null; then
	echo 'pgbouncer.sh: installing pgbouncer with apt-get' >&2
	# Debian starts what it installs, unless this program says no.
	policy=/usr/sbin/policy-rc.d
	if ! [ -e $policy ]; then
		trap '$as_root rm -f $policy' EXIT
		trap 'exit 1' INT TERM
		printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
		$as_root chmod 755 $policy
	fi
	$as_root apt-get update -qq >&2
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends pgbouncer >/dev/null
elif [ "$(uname -s)" = Darwin ] && command -v brew >/dev/null; then
	echo 'pgbouncer.sh: installing pgbouncer with brew' >&2
	HOMEBREW_NO_AUTO_UPDATE=1 brew install --quiet pgbouncer >/dev/null
fi
have || {
	echo 'pgbouncer.sh: the tests need pgbouncer: install the package of that name' >&2
	exit 1
}
