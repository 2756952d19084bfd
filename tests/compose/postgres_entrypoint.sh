#!/bin/sh
# What the official PostgreSQL image does at its start, as far as the stack uses it: a cluster and a database in an
# empty PGDATA, with POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB; passwords over the network; then the server.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  umask 077
  printf '%s' "${POSTGRES_PASSWORD:?}" >/tmp/password
  initdb --pgdata "$PGDATA" --username "$POSTGRES_USER" --pwfile /tmp/password --auth-local trust \
    --auth-host scram-sha-256 --encoding UTF8 --locale C.UTF-8 >/dev/null
  rm /tmp/password
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  pg_ctl --pgdata "$PGDATA" --options "-c listen_addresses=''" --wait start >/dev/null
  createdb --username "$POSTGRES_USER" "$POSTGRES_DB"
  pg_ctl --pgdata "$PGDATA" --wait stop >/dev/null
fi
exec "$@" -c listen_addresses='*'
