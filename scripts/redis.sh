#!/bin/sh
# Makes sure that there is a Redis or Valkey server program: the tests of
# pgtideredis start servers of their own with it.
set -eu
have() { command -v redis-server >/dev/null || command -v valkey-server >/dev/null; }
have && exit
as_root=
if [ "$(id -u)" != 0 ]; then
	as_root='sudo -n'
fi
if command -v apt-get >/dev/null && $as_root true 2>/dev/null; then
	echo 'redis.sh: installing redis-server with apt-get' >&2
	$as_root apt-get update -qq >&2
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends redis-server >/dev/null
	# Debian starts one on port 6379, which nobody asked for.
	if [ -d /run/systemd/system ]; then
		$as_root systemctl disable --quiet --now redis-server
	fi
elif [ "$(uname -s)" = Darwin ] && command -v brew >/dev/null; then
	echo 'redis.sh: installing valkey with brew' >&2
	HOMEBREW_NO_AUTO_UPDATE=1 brew install --quiet valkey >/dev/null
fi
have || {
	echo 'redis.sh: the tests need redis-server or valkey-server: install the package redis-server or valkey' >&2
	exit 1
}
