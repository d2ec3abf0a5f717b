#!/bin/sh
# Runs go mod tidy in every module.
#
# go mod tidy ignores go.work, so a module that requires a release of the
# library which does not exist yet cannot be tidied as it stands. A command may
# not carry a replace in its go.mod (go install would refuse it): it gets one
# for the moment of tidying only.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
export GOWORK=off
library=$(go list -m)

# unreleased: the module in this folder requires a library that only this tree has.
unreleased() {
	! grep -q "^replace $library " go.mod || return 1
	version=$(awk -v lib="$library" '$1 == "require" { $0 = substr($0, 9) } $1 == lib { print $2 }' go.mod)
	[ -n "$version" ] && ! go mod download "$library@$version" >/dev/null 2>&1
}

borrow() {
	trap 'go mod edit -dropreplace "$library"' EXIT
	trap 'exit 1' HUP INT TERM
	go mod edit -replace "$library=$root"
}

for mod in go.mod $(git ls-files -co --exclude-standard '*/go.mod'); do
	echo "go mod tidy in $(dirname "$mod")"
	(
		cd "$(dirname "$mod")"
		if unreleased; then borrow; fi
		go mod tidy
	)
done
