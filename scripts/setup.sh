#!/usr/bin/env bash
# Installs what the Makefile's commands need; returns at once if it is installed already:
#   .venv            Python 3.11 with the packages of requirements.txt, hash-checked
#   .venv/java_home  the home of a Java that Spark supports (17 or newer)
#   .venv/s3-connector  Spark's connector to S3 (10 MB of jars from Maven Central); `setup.sh s3` fails without it
#   .venv/spark-home Spark, prepared for a fast start
# The script first searches this machine for Python and Java. It installs a missing one if that needs no confirmation
# (as root on Debian or Ubuntu, or with uv); otherwise it prints how to install it.
set -euo pipefail
# Settings of the user's shell that change what the commands below do.
unset CDPATH PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV
cd "$(dirname "$0")/.."
case "$PWD" in
  *[:?]*)
    echo "setup: the path of this clone, $PWD, has a colon or a question mark: search paths and Airflow's database" \
      "cannot have them. Move the clone." >&2
    exit 1
    ;;
esac
# A user without a home folder that can be written (docker --user, OpenShift) gets one for the caches of pip and uv.
if ! [ -w "${HOME:-/nonexistent}" ]; then
  export HOME="$PWD/.local/home"
  mkdir -p "$HOME"
fi

# Spark asks the system for the name of the user. As Spark's own containers do, add an entry where that is allowed.
if ! id -un >/dev/null 2>&1; then
  if [ -w /etc/passwd ]; then
    echo "fruits:x:$(id -u):$(id -g):user of fruit-features:$HOME:/bin/bash" >>/etc/passwd
  else
    printf 'setup: %s\n' "user $(id -u) has no entry in /etc/passwd, and Spark does not start without one." \
      "  Docker: add the options --volume /etc/passwd:/etc/passwd:ro --user \"\$(id -u):\$(id -g)\"" \
      "  an image: RUN chmod g=u /etc/passwd, and run it with group 0 (as OpenShift does)" >&2
    exit 1
  fi
fi

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: %s\n' "$@" >&2; exit 1; }
apt_works() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }
apt_install() {
  say "installing $* with apt-get"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } >&2
}

is_python_311() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; }
has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }
find_python() {
  local candidate
  for candidate in python3.11 python3 python "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.11*/bin/python3.11 \
    "${UV_PYTHON_INSTALL_DIR:-$HOME/.local/share/uv/python}"/cpython-3.11*/bin/python3.11; do
    if command -v "$candidate" >/dev/null && is_python_311 "$candidate" && has_venv "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}
get_python() {
  find_python && return
  if apt_works; then apt_install python3.11 python3.11-venv || true; find_python && return; fi
  if command -v uv >/dev/null; then uv python install 3.11 >&2 || true; find_python && return; fi
  fail "Python 3.11 with venv was not found." \
    "  Debian 12:      sudo apt-get install python3.11 python3.11-venv" \
    "  Ubuntu:         sudo add-apt-repository ppa:deadsnakes/ppa && sudo apt-get install python3.11-venv" \
    "  macOS:          brew install python@3.11" \
    "  anywhere:       pip install uv && uv python install 3.11" \
    "Then run the same make command again."
}

java_major() { "$1" -version 2>&1 | sed -nE 's/^[a-z]+ version "?([0-9]+).*/\1/p'; }
home_of() { "$1" -XshowSettings:properties -version 2>&1 | sed -nE 's/^ *java\.home = (.*)$/\1/p'; }
find_java() {
  local candidate major
  for candidate in ${JAVA_HOME:+"$JAVA_HOME/bin/java"} java /usr/lib/jvm/*/bin/java \
    /Library/Java/JavaVirtualMachines/*/Contents/Home/bin/java /opt/homebrew/opt/openjdk@*/bin/java; do
    command -v "$candidate" >/dev/null || continue
    major=$(java_major "$candidate" || true)
    if [ -n "$major" ] && [ "$major" -ge 17 ]; then home_of "$candidate"; return; fi
  done
  return 1
}
get_java() {
  find_java && return
  if apt_works; then
    apt_install openjdk-17-jre-headless || apt_install openjdk-21-jre-headless || true
    find_java && return
  fi
  fail "Java 17 or newer was not found; Spark needs it." \
    "  Debian, Ubuntu: sudo apt-get install openjdk-17-jre-headless" \
    "  Fedora:         sudo dnf install java-17-openjdk-headless" \
    "  macOS:          brew install openjdk@17" \
    "Then run the same make command again."
}

checksum() { { sha256sum "$1" 2>/dev/null || shasum -a 256 "$1"; } | cut -d' ' -f1; }

wanted="$(checksum requirements.txt) $PWD"
if [ "$(cat .venv/complete 2>/dev/null)" != "$wanted" ] || ! is_python_311 .venv/bin/python; then
  python=$(get_python)
  say "creating .venv with $python (3.6 GB with TensorFlow, Spark and Airflow; takes some minutes)"
  rm -f .venv/complete
  "$python" -m venv --clear .venv
  # uv resolves nothing here: it only installs the lock, about ten times faster than pip.
  lock=$(mktemp)
  trap 'rm -f "$lock"' EXIT
  awk '/^uv==/ {on=1} on {print} on && !/\\$/ {exit}' requirements.txt >"$lock"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$lock"
  .venv/bin/uv pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes requirements.txt
  printf '%s' "$wanted" >.venv/complete
  say ".venv is complete"
fi
java_home=$(cat .venv/java_home 2>/dev/null || true)
if [ -z "$java_home" ] || ! [ -x "$java_home/bin/java" ]; then
  java_home=$(get_java)
  printf '%s' "$java_home" >.venv/java_home
fi

# Only STORE=s3 needs the connector: after a failed download, only `setup.sh s3` retries.
connector=$(checksum local/emr/spark/s3_connector.lock)
if [ "$(cat .venv/s3-connector.locked 2>/dev/null)" != "$connector" ]; then
  if [ "${1:-}" = s3 ] || [ "$(cat .venv/s3-connector.tried 2>/dev/null)" != "$connector" ]; then
    say "downloading Spark's S3 connector (10 MB)"
    printf '%s' "$connector" >.venv/s3-connector.tried
    if JAVA_HOME=$java_home .venv/bin/python -m local.emr.spark.s3_connector 2>.venv/s3-connector.error; then
      printf '%s' "$connector" >.venv/s3-connector.locked
    else
      cat .venv/s3-connector.error >&2
      [ "${1:-}" = s3 ] && fail "Spark's S3 connector could not be downloaded; STORE=s3 needs it."
      say "STORE=s3 will not work and its tests will be skipped; everything else works. To retry: make setup STORE=s3"
    fi
  fi
fi
prepared="$java_home $(cat .venv/s3-connector.locked 2>/dev/null || true)"
if [ "$(cat .venv/spark-home/prepared 2>/dev/null)" != "$prepared" ]; then
  say "preparing Spark (once; steps then start in half the time)"
  JAVA_HOME=$java_home LC_ALL=C.UTF-8 .venv/bin/python -m local.emr.spark.spark_home
  printf '%s' "$prepared" >.venv/spark-home/prepared
fi
