#!/bin/sh
# Replaces the entrypoint of the official PostgreSQL image, with the features that the stack uses. In an empty PGDATA, it
# creates a cluster and a database from POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB, with passwords required over the
# network. Then it starts the server.
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
