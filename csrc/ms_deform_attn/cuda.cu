// Entry points of the CUDA operators: checks, device guard, current stream, launch, launch errors.
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include <tuple>

#include "checks.h"
#include "cuda_kernels.cuh"
#include "library.h"

namespace partglee {
namespace {

constexpr int kThreads = 256;

cudaStream_t current_stream(const Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

void check_launch(const char* name) {
  const cudaError_t error = cudaGetLastError();
  STD_TORCH_CHECK(error == cudaSuccess, name, ": ", cudaGetErrorString(error));
}

unsigned blocks_for(int64_t threads) {
  const int64_t blocks = (threads + kThreads - 1) / kThreads;
  STD_TORCH_CHECK(blocks <= INT32_MAX, "ms_deform_attn: ", threads, " threads are more than one launch takes; split the batch");
  return static_cast<unsigned>(blocks);
}

bool aligned(const Tensor& tensor) { return reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 == 0; }

int group_for(int64_t chunks) {
  int group = 1;
  while (group < 32 && group < chunks) group *= 2;
  return group;
}

template <class T, class A, int kVec>
void launch_forward(CudaSizes sizes, const Tensor& value, const Tensor& shapes, const Tensor& starts,
                    const Tensor& locations, const Tensor& weights, const Tensor& out) {
  const int64_t threads = sizes.N * sizes.Q * sizes.M * (sizes.D / kVec);
  forward_kernel<T, A, kVec><<<blocks_for(threads), kThreads, 0, current_stream(value)>>>(
      sizes, static_cast<const T*>(value.const_data_ptr()), static_cast<const int64_t*>(shapes.const_data_ptr()),
      static_cast<const int64_t*>(starts.const_data_ptr()), static_cast<const A*>(locations.const_data_ptr()),
      static_cast<const A*>(weights.const_data_ptr()), static_cast<T*>(out.mutable_data_ptr()));
  check_launch("ms_deform_attn");
}

template <class T, class A, int kVec>
void launch_backward(CudaSizes sizes, const Tensor& grad, const Tensor& value, const Tensor& shapes,
                     const Tensor& starts, const Tensor& locations, const Tensor& weights, const Tensor& grad_value,
                     const Tensor& grad_locations, const Tensor& grad_weights) {
  sizes.group = group_for((sizes.D + kVec - 1) / kVec);
  const int64_t threads = sizes.N * sizes.Q * sizes.M * sizes.group;
  backward_kernel<T, A, kVec><<<blocks_for(threads), kThreads, 0, current_stream(value)>>>(
      sizes, static_cast<const T*>(grad.const_data_ptr()), static_cast<const T*>(value.const_data_ptr()),
      static_cast<const int64_t*>(shapes.const_data_ptr()), static_cast<const int64_t*>(starts.const_data_ptr()),
      static_cast<const A*>(locations.const_data_ptr()), static_cast<const A*>(weights.const_data_ptr()),
      static_cast<A*>(grad_value.mutable_data_ptr()), static_cast<A*>(grad_locations.mutable_data_ptr()),
      static_cast<A*>(grad_weights.mutable_data_ptr()));
  check_launch("ms_deform_attn_backward");
}

// 16-byte rows where the number of channels and the address allow it, single elements otherwise.
template <class T, class A, class... Tensors>
void forward_of(const CudaSizes& sizes, bool wide, const Tensors&... tensors) {
  constexpr int kVec = 16 / sizeof(T);
  if (wide && sizes.D % kVec == 0) {
    launch_forward<T, A, kVec>(sizes, tensors...);
  } else {
    launch_forward<T, A, 1>(sizes, tensors...);
  }
}

template <class T, class A, class... Tensors>
void backward_of(const CudaSizes& sizes, bool wide, const Tensors&... tensors) {
  constexpr int kVec = 16 / sizeof(T);
  if (wide && sizes.D % kVec == 0) {
    launch_backward<T, A, kVec>(sizes, tensors...);
  } else {
    launch_backward<T, A, 1>(sizes, tensors...);
  }
}

CudaSizes cuda_sizes(const Sizes& s) { return {s.N, s.S, s.M, s.D, s.Q, s.L, s.P, 1}; }

Tensor ms_deform_attn_cuda(const Tensor& value_, const Tensor& shapes_, const Tensor& starts_,
                           const Tensor& locations_, const Tensor& weights_) {
  const CudaSizes sizes = cuda_sizes(check_inputs(value_, shapes_, starts_, locations_, weights_));
  const torch::stable::accelerator::DeviceGuard guard(value_.get_device_index());
  const Tensor value = torch::stable::contiguous(value_), shapes = torch::stable::contiguous(shapes_);
  const Tensor starts = torch::stable::contiguous(starts_), locations = torch::stable::contiguous(locations_);
  const Tensor weights = torch::stable::contiguous(weights_);
  const Tensor out = torch::stable::new_empty(value, {sizes.N, sizes.Q, sizes.M * sizes.D});
  if (out.numel() == 0) return out;
  const bool wide = aligned(value) && aligned(out);
  switch (value.scalar_type()) {
    case ScalarType::BFloat16:
      forward_of<__nv_bfloat16, float>(sizes, wide, value, shapes, starts, locations, weights, out);
      break;
    case ScalarType::Half:
      forward_of<__half, float>(sizes, wide, value, shapes, starts, locations, weights, out);
      break;
    case ScalarType::Double:
      forward_of<double, double>(sizes, wide, value, shapes, starts, locations, weights, out);
      break;
    default:
      forward_of<float, float>(sizes, wide, value, shapes, starts, locations, weights, out);
  }
  return out;
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward_cuda(const Tensor& grad_, const Tensor& value_,
                                                                const Tensor& shapes_, const Tensor& starts_,
                                                                const Tensor& locations_, const Tensor& weights_) {
  const Sizes host = check_inputs(value_, shapes_, starts_, locations_, weights_);
  check_grad_output(grad_, value_, host);
  const CudaSizes sizes = cuda_sizes(host);
  const torch::stable::accelerator::DeviceGuard guard(value_.get_device_index());
  const Tensor grad = torch::stable::contiguous(grad_), value = torch::stable::contiguous(value_);
  const Tensor shapes = torch::stable::contiguous(shapes_), starts = torch::stable::contiguous(starts_);
  const Tensor locations = torch::stable::contiguous(locations_), weights = torch::stable::contiguous(weights_);
  const ScalarType type = value.scalar_type();
  const ScalarType sum_type = type == ScalarType::Double ? type : ScalarType::Float;
  // Summed in float32 and rounded once, also for the half types.
  const Tensor sums = torch::stable::new_zeros(value, {sizes.N, sizes.S, sizes.M, sizes.D}, sum_type);
  const bool nothing = sizes.N * sizes.Q * sizes.M * sizes.L * sizes.P == 0 || sizes.D == 0;
  const Tensor grad_locations = nothing
      ? torch::stable::new_zeros(locations, {sizes.N, sizes.Q, sizes.M, sizes.L, sizes.P, 2})
      : torch::stable::new_empty(locations, {sizes.N, sizes.Q, sizes.M, sizes.L, sizes.P, 2});
  const Tensor grad_weights = nothing
      ? torch::stable::new_zeros(weights, {sizes.N, sizes.Q, sizes.M, sizes.L, sizes.P})
      : torch::stable::new_empty(weights, {sizes.N, sizes.Q, sizes.M, sizes.L, sizes.P});
  if (!nothing) {
    const bool wide = aligned(value) && aligned(grad) && aligned(sums);
    switch (type) {
      case ScalarType::BFloat16:
        backward_of<__nv_bfloat16, float>(sizes, wide, grad, value, shapes, starts, locations, weights, sums,
                                          grad_locations, grad_weights);
        break;
      case ScalarType::Half:
        backward_of<__half, float>(sizes, wide, grad, value, shapes, starts, locations, weights, sums, grad_locations,
                                   grad_weights);
        break;
      case ScalarType::Double:
        backward_of<double, double>(sizes, wide, grad, value, shapes, starts, locations, weights, sums, grad_locations,
                                    grad_weights);
        break;
      default:
        backward_of<float, float>(sizes, wide, grad, value, shapes, starts, locations, weights, sums, grad_locations,
                                  grad_weights);
    }
  }
  return {type == sum_type ? sums : torch::stable::to(sums, type), grad_locations, grad_weights};
}

}  // namespace
}  // namespace partglee

STABLE_TORCH_LIBRARY_IMPL(PARTGLEE_NAMESPACE, CUDA, m) {
  m.impl("ms_deform_attn", TORCH_BOX(&partglee::ms_deform_attn_cuda));
  m.impl("ms_deform_attn_backward", TORCH_BOX(&partglee::ms_deform_attn_backward_cuda));
}
