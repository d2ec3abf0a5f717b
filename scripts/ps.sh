#!/bin/sh
# Makes sure that there is a ps: tests look with it for processes that a lab
# left behind. Slim systems come without.
set -eu
command -v ps >/dev/null && exit
as_root=
if [ "$(id -u)" != 0 ]; then
	as_root='sudo -n'
fi
if command -v apt-get >/dev/null && $as_root true 2>/dev/null; then
	echo 'ps.sh: installing ps (package procps) with apt-get' >&2
	$as_root apt-get update -qq >&2
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends procps >/dev/null
fi
command -v ps >/dev/null || {
	echo 'ps.sh: the tests need ps: install the package procps' >&2
	exit 1
}
