#!/usr/bin/env bash
# Bootstrap action of every node: the jobs' Python packages, in an environment of their own, hash-checked.
# Usage: bootstrap_node.sh <URI of requirements-cluster.txt>
set -euo pipefail

requirements=${1:?usage: bootstrap_node.sh s3://bucket/code/<digest>/requirements-cluster.txt}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

aws s3 cp "$requirements" "$folder/requirements.txt"
sudo python3.11 -m venv /opt/fruit-features
sudo /opt/fruit-features/bin/python -m pip install --quiet --require-hashes --only-binary :all: \
  --requirement "$folder/requirements.txt"
