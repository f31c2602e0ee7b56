// Checks shared by the CPU and CUDA entry points: shapes, types and devices, from metadata only (no device wait).
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>

namespace partglee {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

struct Sizes {
  int64_t N, S, M, D, Q, L, P;
};

inline void check_index_tensor(const Tensor& tensor, const Tensor& value, const char* name) {
  STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Long, "ms_deform_attn: ", name, " must be int64");
  STD_TORCH_CHECK(tensor.device() == value.device(), "ms_deform_attn: ", name,
                  " must be on the device of value; move it there, or pass a list of (h, w)");
}

inline Sizes check_inputs(const Tensor& value, const Tensor& shapes, const Tensor& starts, const Tensor& locations,
                          const Tensor& weights) {
  STD_TORCH_CHECK(value.dim() == 4, "ms_deform_attn: value must be (N, S, M, D), got ", value.dim(), " dimensions");
  STD_TORCH_CHECK(locations.dim() == 6, "ms_deform_attn: sampling_locations must be (N, Q, M, L, P, 2), got ",
                  locations.dim(), " dimensions");
  STD_TORCH_CHECK(weights.dim() == 5, "ms_deform_attn: attention_weights must be (N, Q, M, L, P), got ",
                  weights.dim(), " dimensions");
  const Sizes sizes{value.size(0),     value.size(1),     value.size(2),    value.size(3),
                    locations.size(1), locations.size(3), locations.size(4)};
  STD_TORCH_CHECK(locations.size(0) == sizes.N && locations.size(2) == sizes.M && locations.size(5) == 2,
                  "ms_deform_attn: sampling_locations must be (N, Q, M, L, P, 2) with N = ", sizes.N,
                  " and M = ", sizes.M, " of value, got N = ", locations.size(0), ", M = ", locations.size(2),
                  " and a last dimension of ", locations.size(5));
  STD_TORCH_CHECK(weights.size(0) == sizes.N && weights.size(1) == sizes.Q && weights.size(2) == sizes.M &&
                      weights.size(3) == sizes.L && weights.size(4) == sizes.P,
                  "ms_deform_attn: attention_weights must have the shape of sampling_locations without its last "
                  "dimension");
  check_index_tensor(shapes, value, "spatial_shapes");
  check_index_tensor(starts, value, "level_start_index");
  STD_TORCH_CHECK(shapes.dim() == 2 && shapes.size(0) == sizes.L && shapes.size(1) == 2,
                  "ms_deform_attn: spatial_shapes must be (L, 2) with L = ", sizes.L, " of sampling_locations");
  STD_TORCH_CHECK(starts.dim() == 1 && starts.size(0) == sizes.L,
                  "ms_deform_attn: level_start_index must be (L,) with L = ", sizes.L, " of sampling_locations");
  const ScalarType type = value.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::BFloat16 || type == ScalarType::Half ||
                      type == ScalarType::Double,
                  "ms_deform_attn: value must be float32, bfloat16, float16 or float64");
  const ScalarType exact = type == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  STD_TORCH_CHECK(locations.scalar_type() == exact && weights.scalar_type() == exact,
                  "ms_deform_attn: sampling_locations and attention_weights must be float32 (float64 with float64 "
                  "values): half precision moves locations by pixels; call .float() on them");
  STD_TORCH_CHECK(locations.device() == value.device() && weights.device() == value.device(),
                  "ms_deform_attn: all tensors must be on one device");
  return sizes;
}

inline void check_grad_output(const Tensor& grad, const Tensor& value, const Sizes& sizes) {
  STD_TORCH_CHECK(grad.dim() == 3 && grad.size(0) == sizes.N && grad.size(1) == sizes.Q &&
                      grad.size(2) == sizes.M * sizes.D,
                  "ms_deform_attn_backward: grad_output must be (N, Q, M * D) = (", sizes.N, ", ", sizes.Q, ", ",
                  sizes.M * sizes.D, ")");
  STD_TORCH_CHECK(grad.scalar_type() == value.scalar_type() && grad.device() == value.device(),
                  "ms_deform_attn_backward: grad_output must have the dtype and device of value");
}

}  // namespace partglee
