#!/bin/sh
# Runs every fuzz target of the workspace, one after the other:
#
#   scripts/fuzz.sh [TIME]     TIME for each, in go test's words; 10s if not given
set -eu
cd "$(dirname "$0")/.."

files=$(go list -f '{{range .TestGoFiles}}{{$.Dir}}/{{.}} {{end}}{{range .XTestGoFiles}}{{$.Dir}}/{{.}} {{end}}' work)
for file in $files; do
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*testing\.F).*/\1/p' "$file"); do
		echo "$target in ${file#"$PWD"/}"
		go test -C "$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "${1:-10s}" .
	done
done
