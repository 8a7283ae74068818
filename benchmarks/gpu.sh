#!/usr/bin/env bash
# What only a GPU can tell, as one table in FOLDER within eight minutes: gpu.sh [FOLDER] [--cpu] [--seconds N], see README.md.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" "$root/benchmarks/gpu.py" "$@"
