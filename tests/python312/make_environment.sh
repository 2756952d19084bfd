#!/usr/bin/env bash
# Creates .local/python312 for tests/contract/test_python312.py: Python 3.12 with the hash-checked packages of production.
# It uses an installed Python 3.12, or downloads one with uv. It takes a few seconds if the packages are cached.
set -euo pipefail
cd "$(dirname "$0")/../.."

is_python_312() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; }
find_python() {
  local candidate
  for candidate in python3.12 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python3.12 \
    "${UV_PYTHON_INSTALL_DIR:-$HOME/.local/share/uv/python}"/cpython-3.12*/bin/python3.12; do
    if command -v "$candidate" >/dev/null && is_python_312 "$candidate"; then command -v "$candidate"; return; fi
  done
  .venv/bin/uv python install --quiet 3.12 >&2 && .venv/bin/uv python find 3.12
}

wanted=$(sha256sum requirements-airflow.txt | cut -d' ' -f1)
if [ "$(cat .local/python312/complete 2>/dev/null)" != "$wanted" ]; then
  python=$(find_python) || { echo "Python 3.12 was not found" >&2; exit 1; }
  mkdir -p .local
  .venv/bin/uv venv --quiet --clear --python "$python" .local/python312
  .venv/bin/uv pip sync --quiet --python .local/python312/bin/python --require-hashes requirements-airflow.txt
  printf '%s' "$wanted" >.local/python312/complete
fi
