#!/usr/bin/env bash
# Bootstrap action of every node: installs the jobs' Python packages into a virtual environment, with hash checks.
# A node needs no internet access: everything comes from the bucket. Any failure terminates the cluster, since no job can
# run without the packages; the log of the bootstrap action contains the reason.
# Usage: bootstrap_node.sh <URI of requirements-cluster.txt> <URI of the wheelhouse> <region>
set -euo pipefail

usage='usage: bootstrap_node.sh s3://bucket/code/<digest>/requirements-cluster.txt s3://bucket/wheels/<digest> <region>'
requirements=${1:?$usage}
wheelhouse=${2:?$usage}
region=${3:?$usage}
home=${FRUITS_NODE_HOME:-/opt/fruit-features}
attempts=5

fail() { echo "bootstrap_node.sh: $*" >&2; exit 1; }

# Retry copying with growing pauses: on a new node, S3 and the credentials of the role may not be available yet.
fetch() {
  local attempt
  for ((attempt = 1; attempt <= attempts; attempt++)); do
    if aws s3 cp --only-show-errors --region "$region" "$@"; then return 0; fi
    echo "bootstrap_node.sh: attempt $attempt of $attempts failed: aws s3 cp $*" >&2
    if ((attempt < attempts)); then sleep "$((attempt * ${FRUITS_NODE_PAUSE:-5}))"; fi
  done
  return 1
}

case "$(uname -m)" in
  aarch64) architecture=arm64 ;;
  x86_64) architecture=x86_64 ;;
  *) fail "there are no wheels for the architecture $(uname -m)" ;;
esac
# EMR's documentation lists Python 3.11, but not whether nodes have it before the applications are installed. The package
# repository of Amazon Linux is a bucket of the region that clusters can reach (EMR Management Guide, "Sample policies for
# private subnets").
command -v python3.11 >/dev/null || sudo dnf --quiet --assumeyes install python3.11 || true
command -v python3.11 >/dev/null || fail "python3.11 is not on this node: choose an EMR release that has it, such as \
emr-spark-8.1.0, or let nodes reach the packages of Amazon Linux (al2023-repos-$region-de612dc2 on S3)"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fetch "$requirements" "$folder/requirements.txt" || fail "cannot copy $requirements: check that it exists, that the nodes' \
role may read it (s3:GetObject, kms:Decrypt), and that the subnet's route table has an S3 gateway endpoint"
mkdir "$folder/wheels"
fetch --recursive "$wheelhouse/$architecture/" "$folder/wheels/" || fail "cannot copy the wheels of \
$wheelhouse/$architecture: check that the nodes' role may read and list it (s3:GetObject, s3:ListBucket, kms:Decrypt)"
compgen -G "$folder/wheels/*.whl" >/dev/null || fail "no wheels at $wheelhouse/$architecture: run make publish ROOT=…"

sudo python3.11 -m venv --clear "$home" || fail "cannot create a virtual environment in $home"
# The lock is complete, so pip resolves nothing (--no-deps); each file must have one of the hashes in the lock.
# --ignore-requires-python: ai-edge-litert requires backports-strenum, which only declares support for Python < 3.11.
sudo "$home/bin/python" -m pip --isolated --disable-pip-version-check install --quiet --no-cache-dir \
  --no-index --find-links "$folder/wheels" --no-deps --ignore-requires-python \
  --require-hashes --only-binary :all: --requirement "$folder/requirements.txt" \
  || fail "the packages of $requirements cannot be installed from $wheelhouse/$architecture: pip reports above which \
one is missing or has a wrong hash. Publish the wheelhouse again: make publish ROOT=…"
# Import the packages once, so that a missing system library is reported here and not by the first task.
"$home/bin/python" -c 'import ai_edge_litert.interpreter, numpy, obstore, pandas, PIL.Image, pyarrow.parquet' \
  || fail "the packages are installed in $home, but cannot be imported on this node"
echo "bootstrap_node.sh: $("$home/bin/python" --version), $(find "$folder/wheels" -name '*.whl' | wc -l) packages for $architecture in $home"
