// Entry points of the CPU operator that makes places and weights of samples: checks, the choice of instruction set,
// threads.
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
namespace sampling {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kMostLevels = 64;
constexpr int64_t kGrain = 256;  // queries that are worth a thread

#include "../chosen_kernels.h"

const float* floats(const Tensor& tensor, int64_t dimensions, const char* name) {
  STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Float && tensor.is_contiguous() && tensor.dim() == dimensions,
                  "sampling_points: ", name, " must be contiguous float32 with ", dimensions, " dimensions");
  return static_cast<const float*>(tensor.const_data_ptr());
}

// Offsets (N, Q, M, L, P, 2) or their like, logits (N, Q, M, L * P) or theirs. `size` has to outlive the plan.
Plan plan_of(const Tensor& offsets, const Tensor& logits, const Tensor& reference, const Tensor& shapes, float* size) {
  Plan plan{};
  plan.offsets = floats(offsets, 6, "offsets");
  plan.logits = floats(logits, 4, "logits");
  plan.reference = floats(reference, 4, "reference");
  const int64_t images = offsets.size(0), queries = offsets.size(1);
  plan.heads = offsets.size(2);
  plan.levels = offsets.size(3);
  plan.points = offsets.size(4);
  plan.shared = reference.size(2);
  plan.coordinates = reference.size(3);
  STD_TORCH_CHECK(offsets.size(5) == 2 && logits.size(0) == images && logits.size(1) == queries &&
                      logits.size(2) == plan.heads && logits.size(3) == plan.levels * plan.points,
                  "sampling_points: offsets must be (N, Q, M, L, P, 2) and logits (N, Q, M, L * P)");
  STD_TORCH_CHECK(reference.size(0) == images && reference.size(1) == queries &&
                      (plan.shared == 1 || plan.shared == plan.levels) &&
                      (plan.coordinates == 2 || plan.coordinates == 4),
                  "sampling_points: reference must be (N, Q, L or 1, 2 or 4)");
  STD_TORCH_CHECK(shapes.scalar_type() == ScalarType::Long && shapes.is_contiguous() && shapes.dim() == 2 &&
                      shapes.size(0) == plan.levels && shapes.size(1) == 2 && plan.levels <= kMostLevels,
                  "sampling_points: shapes must be contiguous int64 (L, 2), L at most ", kMostLevels);
  const int64_t* height_width = static_cast<const int64_t*>(shapes.const_data_ptr());
  for (int64_t level = 0; level < plan.levels; ++level) {
    size[2 * level] = static_cast<float>(height_width[2 * level + 1]);
    size[2 * level + 1] = static_cast<float>(height_width[2 * level]);
  }
  plan.size = size;
  return plan;
}

// Outputs like the inputs, and the kernels over all queries.
std::tuple<Tensor, Tensor> outputs(Plan plan, const float* attention, const Tensor& offsets, const Tensor& logits) {
  const Tensor locations = torch::stable::new_empty(offsets, offsets.sizes());
  const Tensor weights = torch::stable::new_empty(logits, logits.sizes());
  plan.locations = static_cast<float*>(locations.mutable_data_ptr());
  plan.weights = static_cast<float*>(weights.mutable_data_ptr());
  const Kernels& chosen = kernels();
  if (offsets.numel() > 0) {
    torch::stable::parallel_for(0, offsets.size(0) * offsets.size(1), kGrain, [&](int64_t begin, int64_t end) {
      const std::unique_ptr<char[]> memory(new char[chosen.scratch(plan)]);
      chosen.run(plan, attention, begin, end, memory.get());
    });
  }
  return {locations, weights};
}

std::tuple<Tensor, Tensor> sampling_points(const Tensor& offsets, const Tensor& logits, const Tensor& reference,
                                           const Tensor& shapes) {
  float size[2 * kMostLevels];
  return outputs(plan_of(offsets, logits, reference, shapes, size), nullptr, offsets, logits);
}

std::tuple<Tensor, Tensor> sampling_points_backward(const Tensor& grad_locations, const Tensor& grad_weights,
                                                    const Tensor& weights, const Tensor& reference,
                                                    const Tensor& shapes) {
  float size[2 * kMostLevels];
  const Plan plan = plan_of(grad_locations, grad_weights, reference, shapes, size);
  STD_TORCH_CHECK(weights.numel() == grad_weights.numel(), "sampling_points: weights must be like their gradient");
  return outputs(plan, floats(weights, 4, "weights"), grad_locations, grad_weights);
}

}  // namespace
}  // namespace sampling
}  // namespace partglee

STABLE_TORCH_LIBRARY_FRAGMENT(PARTGLEE_NAMESPACE, m) {
  m.def("sampling_points(Tensor offsets, Tensor logits, Tensor reference, Tensor shapes) -> (Tensor, Tensor)");
  m.def(
      "sampling_points_backward(Tensor grad_locations, Tensor grad_weights, Tensor weights, Tensor reference, "
      "Tensor shapes) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(PARTGLEE_NAMESPACE, CPU, m) {
  m.impl("sampling_points", TORCH_BOX(&partglee::sampling::sampling_points));
  m.impl("sampling_points_backward", TORCH_BOX(&partglee::sampling::sampling_points_backward));
}
