// The operators' signatures. Their CPU kernels are in this library, their CUDA kernels in a second one, which a
// PyTorch without CUDA could not load; fakes and derivatives are registered from Python.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(partglee, m) {
  m.def(
      "ms_deform_attn(Tensor value, Tensor spatial_shapes, Tensor level_start_index, "
      "Tensor sampling_locations, Tensor attention_weights) -> Tensor");
  m.def(
      "ms_deform_attn_backward(Tensor grad_output, Tensor value, Tensor spatial_shapes, "
      "Tensor level_start_index, Tensor sampling_locations, Tensor attention_weights) "
      "-> (Tensor, Tensor, Tensor)");
}
