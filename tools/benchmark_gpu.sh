#!/usr/bin/env bash
# Everything that is owed on a GPU, in one command: what is right, what is safe, how fast, how much memory.
#
#   bash tools/benchmark_gpu.sh [OUT]      # writes OUT/*.txt and OUT/*.json (default: output/gpu); about twenty minutes
#
# Each step writes its own file, and one that fails does not stop the others; the last lines say which did.
set -uo pipefail
cd "$(dirname "$0")/.."
OUT=${1:-output/gpu}
PYTHON=${PYTHON:-python}
mkdir -p "$OUT"
failed=()

step() {  # NAME COMMAND...
  local name=$1
  shift
  echo "== $name: $*"
  if "$@" >"$OUT/$name.txt" 2>&1; then tail -n 40 "$OUT/$name.txt"; else failed+=("$name"); tail -n 15 "$OUT/$name.txt"; fi
}

if ! "$PYTHON" -c "import torch, sys; sys.exit(not torch.cuda.is_available())"; then
  echo "no GPU: torch.cuda.is_available() is False; nothing was run" >&2
  exit 2
fi
step hardware nvidia-smi
step build env PARTGLEE_BUILD_OPS=1 "$PYTHON" setup.py build_ops
step tests "$PYTHON" -m pytest -q -m "gpu and not slow" tests
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    step "sanitizer_$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 \
      "$PYTHON" -m pytest -q -m "gpu and not slow" tests/ops
  done
else
  echo "== compute-sanitizer is not installed: left out"
  failed+=("sanitizer (not installed)")
fi
step operator "$PYTHON" tools/benchmark_ops_cuda.py --json "$OUT/operator.json"
for config in joint_r50 joint_swinL; do
  for batch in 1 16; do
    step "model_${config}_$batch" "$PYTHON" tools/benchmark_model.py --config "$config" --size 800x1333 --device cuda \
      --batch "$batch" --precision float32,bfloat16 --rounds 5 --output "$OUT/model_${config}_$batch.json"
  done
done
for config in joint_r50 joint_swinL; do
  step "graphs_$config" "$PYTHON" tools/benchmark_graphs.py --config "$config" --output "$OUT/graphs_$config.json"
done
step train_joint_r50 "$PYTHON" tools/benchmark_train.py --config joint_r50 --size 1024x1024 --batch 2 --precision bf16 \
  --device cuda --rounds 10 --output "$OUT/train_joint_r50.json"

echo "written to $OUT"
if ((${#failed[@]})); then
  printf 'FAILED: %s\n' "${failed[@]}"
  exit 1
fi
