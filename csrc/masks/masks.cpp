// Entry point of the CPU operator that enlarges masks: checks, the choice of instruction set, threads.
#include <cstring>
#include <memory>
#include <tuple>

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include "../ms_deform_attn/library.h"
#include "plan.h"

extern "C" const char* partglee_cpu_instruction_set();

namespace partglee {
namespace masks {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

#include "../chosen_kernels.h"

// The kernel reads where `first` points: what lies outside of the map must be refused here.
Axis axis(const Tensor& first, const Tensor& weight, int64_t from, bool columns, const char* name) {
  STD_TORCH_CHECK(first.scalar_type() == ScalarType::Int && first.dim() == 1 && first.is_contiguous(),
                  "enlarge_masks: first of ", name, " must be a contiguous int32 vector");
  STD_TORCH_CHECK(weight.scalar_type() == ScalarType::Float && weight.dim() == 2 && weight.is_contiguous(),
                  "enlarge_masks: weights of ", name, " must be a contiguous float32 matrix");
  const int64_t to = first.size(0), taps = weight.size(columns ? 0 : 1);
  STD_TORCH_CHECK(weight.size(columns ? 1 : 0) == to && taps >= 1, "enlarge_masks: weights of ", name,
                  " must have one row for each of ", to, " outputs, and at least one tap");
  const int32_t* at = static_cast<const int32_t*>(first.const_data_ptr());
  for (int64_t i = 0; i < to; ++i) {
    STD_TORCH_CHECK(at[i] >= (i ? at[i - 1] : 0) && at[i] + taps <= from, "enlarge_masks: first of ", name,
                    " must not fall, and lie in 0..", from - taps, ", got ", at[i], " at ", i);
  }
  return {from, to, taps, at, static_cast<const float*>(weight.const_data_ptr())};
}

// None at all, or one for each mask.
const int64_t* checked_windows(const Tensor& windows, const Plan& plan) {
  STD_TORCH_CHECK(windows.scalar_type() == ScalarType::Long && windows.dim() == 2 && windows.size(1) == 4 &&
                      windows.is_contiguous() && (windows.size(0) == 0 || windows.size(0) == plan.count),
                  "enlarge_masks: windows must be contiguous int64 (N, 4) with N = ", plan.count, " or 0");
  if (windows.size(0) == 0) return nullptr;
  const int64_t* at = static_cast<const int64_t*>(windows.const_data_ptr());
  for (int64_t i = 0; i < plan.count; ++i) {
    const int64_t* w = at + 4 * i;
    STD_TORCH_CHECK(0 <= w[0] && w[0] <= w[1] && w[1] <= plan.rows.to && 0 <= w[2] && w[2] <= w[3] &&
                        w[3] <= plan.columns.to,
                    "enlarge_masks: window ", i, " must be top, bottom, left, right inside ", plan.rows.to, " x ",
                    plan.columns.to, ", got ", w[0], ", ", w[1], ", ", w[2], ", ", w[3]);
  }
  return at;
}

std::tuple<Tensor, Tensor> enlarge_masks(const Tensor& logits, const Tensor& row_first, const Tensor& row_weight,
                                         const Tensor& column_first, const Tensor& column_weight,
                                         const Tensor& windows, bool inside, bool sums) {
  STD_TORCH_CHECK(logits.dim() == 3 && logits.scalar_type() == ScalarType::Float && logits.is_contiguous(),
                  "enlarge_masks: logits must be contiguous float32 (N, h, w)");
  Plan plan{};
  plan.count = logits.size(0);
  plan.rows = axis(row_first, row_weight, logits.size(1), false, "rows");
  plan.columns = axis(column_first, column_weight, logits.size(2), true, "columns");
  plan.logits = static_cast<const float*>(logits.const_data_ptr());
  plan.windows = checked_windows(windows, plan);
  const Tensor masks = torch::stable::new_empty(
      logits, {inside ? plan.count : 0, plan.rows.to, plan.columns.to}, ScalarType::Bool);
  const Tensor totals = torch::stable::new_empty(logits, {2, sums ? plan.count : 0}, ScalarType::Double);
  if (inside) plan.inside = static_cast<bool*>(masks.mutable_data_ptr());
  if (sums) {
    plan.area = static_cast<double*>(totals.mutable_data_ptr());
    plan.sum = plan.area + plan.count;
  }
  const Kernels& chosen = kernels();
  if (plan.count > 0) {
    torch::stable::parallel_for(0, plan.count, 1, [&](int64_t begin, int64_t end) {
      const std::unique_ptr<char[]> memory(new char[chosen.scratch(plan)]);
      chosen.run(plan, begin, end, memory.get());
    });
  }
  return {masks, totals};
}

}  // namespace
}  // namespace masks
}  // namespace partglee

STABLE_TORCH_LIBRARY_FRAGMENT(PARTGLEE_NAMESPACE, m) {
  m.def(
      "enlarge_masks(Tensor logits, Tensor row_first, Tensor row_weight, Tensor column_first, Tensor column_weight, "
      "Tensor windows, bool inside, bool sums) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(PARTGLEE_NAMESPACE, CPU, m) {
  m.impl("enlarge_masks", TORCH_BOX(&partglee::masks::enlarge_masks));
}
