#!/bin/sh
# Builds {{name}}.wasm. componentize-py is installed into .venv unless COMPONENTIZE_PY names one.
set -eu
cd "$(dirname "$0")"
tool=${COMPONENTIZE_PY:-.venv/bin/componentize-py}
if [ ! -x "$tool" ]; then
  python3 -m venv .venv
  .venv/bin/pip install -q --disable-pip-version-check componentize-py==0.25.1
fi
"$tool" -d wit -w picket:check/check componentize app -o {{name}}.wasm
