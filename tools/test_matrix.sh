#!/usr/bin/env bash
# The fast tests on the oldest and the newest of what is supported, each in an environment of its own: every Python of
# 3.10 to 3.13 that is found with the newest packages, and the oldest one also with the oldest.
#
#   tools/test_matrix.sh FOLDER [PYTEST ARGUMENTS]      FOLDER gets the environments, about 6 GB each
set -uo pipefail
folder=$1
shift
cd "$(dirname "$0")/.."
oldest=(torch==2.10.0 torchvision==0.25.0 numpy==1.26.4 timm==1.0.22 supervision==0.25.0)
newest=("torch>=2.10" torchvision)
fast="not slow and not gpu and not detectron2 and not compile and not ray"

find_python() { # 3.12 -> a path, from PATH, pyenv or uv
    local candidate
    for candidate in "python$1" "$HOME"/.pyenv/versions/"$1".*/bin/python; do
        if command -v "$candidate" > /dev/null && "$candidate" -c "import venv" 2> /dev/null; then
            command -v "$candidate"
            return
        fi
    done
    command -v uv > /dev/null && uv python find "$1" 2> /dev/null
}

try() { # NAME PYTHON REQUIREMENT...
    local name=$1 python=$2 env="$folder/$1"
    shift 2
    if [ ! -f "$env/.ready" ]; then
        "$python" -m venv "$env" && "$env/bin/pip" install -q "$@" && "$env/bin/pip" install -q -e ".[dev]" "$@" &&
            touch "$env/.ready" || return 1
    fi
    "$env/bin/python" -c "import sys, torch, numpy, timm, supervision as s
print('$name: Python', sys.version.split()[0], 'torch', torch.__version__, 'numpy', numpy.__version__, 'timm', timm.__version__, 'supervision', s.__version__)"
    OMP_NUM_THREADS=1 "$env/bin/python" -m pytest "${arguments[@]}"
}

arguments=("$@")
[ $# -gt 0 ] || arguments=(tests -m "$fast")
mkdir -p "$folder"
results=()
status=0
first=""
for version in 3.10 3.11 3.12 3.13; do
    python=$(find_python "$version")
    if [ -z "$python" ]; then
        results+=("$version: not found, not tried")
        continue
    fi
    if [ -z "$first" ]; then
        first=$version
        try "$version-oldest" "$python" "${oldest[@]}" && results+=("$version-oldest: passed") ||
            { results+=("$version-oldest: FAILED"); status=1; }
    fi
    try "$version-newest" "$python" "${newest[@]}" && results+=("$version-newest: passed") ||
        { results+=("$version-newest: FAILED"); status=1; }
done
printf '%s\n' "${results[@]}"
exit $status
