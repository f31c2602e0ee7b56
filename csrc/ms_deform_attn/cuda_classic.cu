// The baseline of the GPU benchmark: the classic style of this operator, one thread per channel with scalar float32
// loads and scalar atomics. Never chosen by the library; reached as torch.ops.partglee.ms_deform_attn_classic*.
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include <tuple>

#include "checks.h"
#include "geometry.h"
#include "library.h"

namespace partglee {
namespace {

__global__ void classic_forward(Sizes s, const float* value, const int64_t* shapes, const int64_t* starts,
                                const float* locations, const float* weights, float* out) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= s.N * s.Q * s.M * s.D) return;
  const int64_t channel = index % s.D, item = index / s.D, head = item % s.M, image = item / s.M / s.Q;
  const float* column = value + (image * s.S * s.M + head) * s.D + channel;
  float sum = 0;
  for (int64_t k = 0; k < s.L * s.P; ++k) {
    const int64_t l = k / s.P, point = item * s.L * s.P + k;
    const int height = static_cast<int>(shapes[2 * l]), width = static_cast<int>(shapes[2 * l + 1]);
    const Place<float> at = place(locations[2 * point], locations[2 * point + 1], height, width);
    if (!at.inside) continue;
    float sample = 0;
    for (int c = 0; c < 4; ++c) {
      const int y = at.line + c / 2, x = at.column + c % 2;
      if (y < 0 || x < 0 || y >= height || x >= width) continue;
      const float factor = (c / 2 ? at.bottom : 1 - at.bottom) * (c % 2 ? at.right : 1 - at.right);
      sample += factor * column[(starts[l] + static_cast<int64_t>(y) * width + x) * s.M * s.D];
    }
    sum += weights[point] * sample;
  }
  out[index] = sum;
}

// One block of D threads per (image, query, head); thread 0 adds up what the threads left in shared memory.
__global__ void classic_backward(Sizes s, const float* grad_out, const float* value, const int64_t* shapes,
                                 const int64_t* starts, const float* locations, const float* weights,
                                 float* grad_value, float* grad_locations, float* grad_weights) {
  extern __shared__ float shared[];  // 3 numbers per channel
  const int64_t item = blockIdx.x, head = item % s.M, image = item / s.M / s.Q;
  const int64_t channel = threadIdx.x, column = (image * s.S * s.M + head) * s.D + channel;
  const float grad = grad_out[item * s.D + channel];
  for (int64_t k = 0; k < s.L * s.P; ++k) {
    const int64_t l = k / s.P, point = item * s.L * s.P + k;
    const int height = static_cast<int>(shapes[2 * l]), width = static_cast<int>(shapes[2 * l + 1]);
    const Place<float> at = place(locations[2 * point], locations[2 * point + 1], height, width);
    float by_weight = 0, by_x = 0, by_y = 0;
    for (int c = 0; at.inside && c < 4; ++c) {
      const int y = at.line + c / 2, x = at.column + c % 2;
      if (y < 0 || x < 0 || y >= height || x >= width) continue;
      const float vertical = c / 2 ? at.bottom : 1 - at.bottom, horizontal = c % 2 ? at.right : 1 - at.right;
      const int64_t where = column + (starts[l] + static_cast<int64_t>(y) * width + x) * s.M * s.D;
      const float dot = grad * value[where];
      atomicAdd(grad_value + where, weights[point] * vertical * horizontal * grad);
      by_weight += vertical * horizontal * dot;
      by_x += (c % 2 ? vertical : -vertical) * dot;
      by_y += (c / 2 ? horizontal : -horizontal) * dot;
    }
    shared[3 * channel] = by_weight;
    shared[3 * channel + 1] = by_x * width * weights[point];
    shared[3 * channel + 2] = by_y * height * weights[point];
    __syncthreads();
    if (channel == 0) {
      float sums[3] = {0, 0, 0};
      for (int64_t i = 0; i < s.D; ++i) {
        for (int j = 0; j < 3; ++j) sums[j] += shared[3 * i + j];
      }
      grad_weights[point] = sums[0];
      grad_locations[2 * point] = sums[1];
      grad_locations[2 * point + 1] = sums[2];
    }
    __syncthreads();
  }
}

cudaStream_t current_stream(const Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

void check(const Tensor& value) {
  STD_TORCH_CHECK(value.scalar_type() == ScalarType::Float, "ms_deform_attn_classic: float32 only");
  const cudaError_t error = cudaGetLastError();
  STD_TORCH_CHECK(error == cudaSuccess, "ms_deform_attn_classic: ", cudaGetErrorString(error));
}

const float* reals(const Tensor& tensor) { return static_cast<const float*>(tensor.const_data_ptr()); }
const int64_t* integers(const Tensor& tensor) { return static_cast<const int64_t*>(tensor.const_data_ptr()); }
float* target(const Tensor& tensor) { return static_cast<float*>(tensor.mutable_data_ptr()); }

// Contiguous inputs only: it is a yardstick, not an operator for users.
Tensor forward(const Tensor& value, const Tensor& shapes, const Tensor& starts, const Tensor& locations,
               const Tensor& weights) {
  const Sizes s = check_inputs(value, shapes, starts, locations, weights);
  check(value);
  const torch::stable::accelerator::DeviceGuard guard(value.get_device_index());
  const Tensor out = torch::stable::new_empty(value, {s.N, s.Q, s.M * s.D});
  const unsigned blocks = static_cast<unsigned>((out.numel() + 1023) / 1024);
  classic_forward<<<blocks, 1024, 0, current_stream(value)>>>(s, reals(value), integers(shapes), integers(starts),
                                                              reals(locations), reals(weights), target(out));
  check(value);
  return out;
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& value, const Tensor& shapes,
                                            const Tensor& starts, const Tensor& locations, const Tensor& weights) {
  const Sizes s = check_inputs(value, shapes, starts, locations, weights);
  check_grad_output(grad, value, s);
  check(value);
  STD_TORCH_CHECK(s.D <= 1024, "ms_deform_attn_classic: at most 1024 channels per head");
  const torch::stable::accelerator::DeviceGuard guard(value.get_device_index());
  const Tensor grad_value = torch::stable::new_zeros(value, {s.N, s.S, s.M, s.D});
  const Tensor grad_locations = torch::stable::new_zeros(locations, {s.N, s.Q, s.M, s.L, s.P, 2});
  const Tensor grad_weights = torch::stable::new_zeros(weights, {s.N, s.Q, s.M, s.L, s.P});
  const unsigned shared = static_cast<unsigned>(3 * s.D * sizeof(float));
  classic_backward<<<static_cast<unsigned>(s.N * s.Q * s.M), static_cast<unsigned>(s.D), shared,
                     current_stream(value)>>>(s, reals(grad), reals(value), integers(shapes), integers(starts),
                                              reals(locations), reals(weights), target(grad_value),
                                              target(grad_locations), target(grad_weights));
  check(value);
  return {grad_value, grad_locations, grad_weights};
}

}  // namespace
}  // namespace partglee

STABLE_TORCH_LIBRARY_FRAGMENT(PARTGLEE_NAMESPACE, m) {
  m.def(
      "ms_deform_attn_classic(Tensor value, Tensor spatial_shapes, Tensor level_start_index, "
      "Tensor sampling_locations, Tensor attention_weights) -> Tensor");
  m.def(
      "ms_deform_attn_classic_backward(Tensor grad_output, Tensor value, Tensor spatial_shapes, "
      "Tensor level_start_index, Tensor sampling_locations, Tensor attention_weights) "
      "-> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(PARTGLEE_NAMESPACE, CUDA, m) {
  m.impl("ms_deform_attn_classic", TORCH_BOX(&partglee::forward));
  m.impl("ms_deform_attn_classic_backward", TORCH_BOX(&partglee::backward));
}
