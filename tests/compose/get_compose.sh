#!/usr/bin/env bash
# Makes Docker Compose from its own Go module where this machine has none: some minutes once, then it is in the cache.
# Prints the program's path. `docker-compose config` needs no engine.
set -euo pipefail
version=v2.40.3
module=github.com/docker/compose/v2
program="${XDG_CACHE_HOME:-$HOME/.cache}/fruit-features/docker-compose-$version"
if [ ! -x "$program" ]; then
  command -v go >/dev/null || { echo "Go was not found: install it, or Docker's compose plugin" >&2; exit 1; }
  work="$(mktemp -d)"
  trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
  sources="$(cd "$work" && go mod download -json "$module@$version" | sed -nE 's/^\s*"Dir": "(.*)",?$/\1/p')"
  cp -r "$sources" "$work/compose"
  chmod -R u+w "$work/compose"
  mkdir -p "$(dirname "$program")"
  # Built as a module of its own: `go install` refuses one whose go.mod excludes versions.
  (cd "$work/compose" && go build -trimpath -ldflags "-s -w -X $module/internal.Version=$version" -o "$work/program" ./cmd)
  mv "$work/program" "$program"
fi
echo "$program"
