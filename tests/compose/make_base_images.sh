#!/usr/bin/env bash
# Builds stand-ins for the two base images of the stack, for machines without access to an image registry, and imports
# them into the engine that `docker` uses:
#   fruits-base-python    Debian 12 with its Python 3.11, instead of python:3.11.*-slim-bookworm
#   fruits-base-postgres  Debian 12's PostgreSQL 15, started by postgres_entrypoint.sh, instead of postgres:17.*
# Needs root, debootstrap and an engine. The stand-ins contain the package sources, trusted certificates and pip settings
# of this machine, so that a build inside them can reach the same servers. Stand-ins are only for the tests.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# The mirror of this machine's package sources, unless DEBIAN_MIRROR is set.
first_mirror() { cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null |
  sed -nE 's/^URIs: *([^ ]*).*/\1/p; s/^deb +(\[[^]]*\] +)?([^ ]*).*/\2/p' | sed -n 1p || true; }
mirror="${DEBIAN_MIRROR:-$(first_mirror)}"

in_base() { DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 chroot "$work/base" "$@"; }

echo "base: Debian 12"
debootstrap --variant=minbase --include=ca-certificates bookworm "$work/base" ${mirror:+"$mirror"} >"$work/log" 2>&1 ||
  { tail -n 20 "$work/log" "$work/base/debootstrap/debootstrap.log" >&2; exit 1; }
rm -f "$work/base/etc/apt/sources.list"
cp -rL /etc/apt/sources.list.d/. "$work/base/etc/apt/sources.list.d/"
[ ! -e /etc/apt/sources.list ] || cp /etc/apt/sources.list "$work/base/etc/apt/"
cp /etc/apt/apt.conf.d/99* "$work/base/etc/apt/apt.conf.d/" 2>/dev/null || true
cp -rL /usr/local/share/ca-certificates/. "$work/base/usr/local/share/ca-certificates/"
in_base update-ca-certificates >"$work/log" 2>&1
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$work/base/etc/pip.conf"
cp /etc/resolv.conf /etc/hosts "$work/base/etc/"

echo "base: Python 3.11"
in_base apt-get update -qq
in_base apt-get install -y -qq --no-install-recommends python3.11 python3.11-venv >"$work/log" 2>&1 ||
  { tail -n 20 "$work/log" >&2; exit 1; }
ln -sf /usr/bin/python3.11 "$work/base/usr/local/bin/python"
ln -sf /usr/bin/python3.11 "$work/base/usr/local/bin/python3"
in_base apt-get clean
tar -C "$work/base" -c . | docker import --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' \
  --change 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' --change 'CMD ["python"]' - fruits-base-python:local

echo "base: PostgreSQL"
in_base apt-get install -y -qq --no-install-recommends postgresql-15 >"$work/log" 2>&1 ||
  { tail -n 20 "$work/log" >&2; exit 1; }
in_base apt-get clean
# The same data folder and variables as in the official image.
install -d "$work/base/var/lib/postgresql/data"
in_base chown -R postgres:postgres /var/lib/postgresql /var/run/postgresql
install -m 755 "$here/postgres_entrypoint.sh" "$work/base/usr/local/bin/docker-entrypoint.sh"
tar -C "$work/base" -c . | docker import --change 'ENV PATH=/usr/local/bin:/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  --change 'ENV PGDATA=/var/lib/postgresql/data' --change 'ENTRYPOINT ["docker-entrypoint.sh"]' \
  --change 'CMD ["postgres"]' - fruits-base-postgres:local
docker image ls --filter reference='fruits-base-*'
