#!/bin/sh
# Installs a hash-checked lock into the image's environment and removes its own tools: install.sh LOCK
set -eu
pip install --quiet --disable-pip-version-check --no-cache-dir --require-hashes --requirement /usr/local/share/uv.txt
uv pip install --quiet --no-cache --compile-bytecode --python /opt/venv/bin/python --require-hashes --requirement "$1"
pip uninstall --quiet --disable-pip-version-check --yes uv
