#!/usr/bin/env bash
# Bootstrap action of every node: the jobs' Python packages, in an environment of their own, hash-checked.
# A node needs no internet: everything comes from the bucket. Without the packages no job can run, so that any failure
# ends the cluster, with its reason in the log of the bootstrap action.
# Usage: bootstrap_node.sh <URI of requirements-cluster.txt> <URI of the wheelhouse> <region>
set -euo pipefail

usage='usage: bootstrap_node.sh s3://bucket/code/<digest>/requirements-cluster.txt s3://bucket/wheels/<digest> <region>'
requirements=${1:?$usage}
wheelhouse=${2:?$usage}
region=${3:?$usage}
home=${FRUITS_NODE_HOME:-/opt/fruit-features}
tries=5

fail() { echo "bootstrap_node.sh: $*" >&2; exit 1; }

# Copying is tried again with growing pauses: S3, and the role's credentials on a new node, may need a moment.
fetch() {
  local try
  for ((try = 1; try <= tries; try++)); do
    if aws s3 cp --only-show-errors --region "$region" "$@"; then return 0; fi
    echo "bootstrap_node.sh: try $try of $tries has failed: aws s3 cp $*" >&2
    if ((try < tries)); then sleep "$((try * ${FRUITS_NODE_PAUSE:-5}))"; fi
  done
  return 1
}

case "$(uname -m)" in
  aarch64) architecture=arm64 ;;
  x86_64) architecture=x86_64 ;;
  *) fail "no wheels are kept for nodes of the architecture $(uname -m)" ;;
esac
# Releases list it, but not whether nodes have it before their applications are installed. Amazon Linux keeps its packages
# in a bucket of the region, which clusters reach anyway (EMR Management Guide, "Sample policies for private subnets").
command -v python3.11 >/dev/null || sudo dnf --quiet --assumeyes install python3.11 || true
command -v python3.11 >/dev/null || fail "python3.11 is not on this node: choose an EMR release that has it, such as \
emr-spark-8.1.0, or let nodes reach the packages of Amazon Linux (al2023-repos-$region-de612dc2 on S3)"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fetch "$requirements" "$folder/requirements.txt" || fail "cannot copy $requirements: is it there, may the nodes' role \
read it (s3:GetObject, kms:Decrypt), and is there an S3 gateway endpoint in the subnet's route table?"
mkdir "$folder/wheels"
fetch --recursive "$wheelhouse/$architecture/" "$folder/wheels/" || fail "cannot copy the wheels of \
$wheelhouse/$architecture: may the nodes' role read and list it (s3:GetObject, s3:ListBucket, kms:Decrypt)?"
compgen -G "$folder/wheels/*.whl" >/dev/null || fail "no wheels at $wheelhouse/$architecture: run make publish ROOT=…"

sudo python3.11 -m venv --clear "$home" || fail "cannot make a virtual environment in $home"
# The lock is complete, so that nothing is resolved (--no-deps), and each file has to have one of its hashes.
# --ignore-requires-python: ai-edge-litert asks for backports-strenum, which declares itself for Python before 3.11.
sudo "$home/bin/python" -m pip --isolated --disable-pip-version-check install --quiet --no-cache-dir \
  --no-index --find-links "$folder/wheels" --no-deps --ignore-requires-python \
  --require-hashes --only-binary :all: --requirement "$folder/requirements.txt" \
  || fail "the packages of $requirements cannot be installed from $wheelhouse/$architecture: pip says above which \
one is missing or is another file than was locked. Publish the wheelhouse again: make publish ROOT=…"
# Loaded once here, a library that the node lacks is told now, and not by the first task.
"$home/bin/python" -c 'import ai_edge_litert.interpreter, numpy, obstore, pandas, PIL.Image, pyarrow.parquet' \
  || fail "the packages are installed in $home, but cannot be loaded on this node"
echo "bootstrap_node.sh: $("$home/bin/python" --version), $(find "$folder/wheels" -name '*.whl' | wc -l) packages for $architecture in $home"
