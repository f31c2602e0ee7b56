// Entry points of the operators on compressed run lengths: what may be read is checked here.
#include <vector>

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include "../ms_deform_attn/library.h"
#include "runs.h"

namespace partglee {
namespace run_lengths {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

const int64_t* integers(const Tensor& tensor, int64_t count, const char* name) {
  STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Long && tensor.dim() == 1 && tensor.is_contiguous() &&
                      tensor.size(0) == count,
                  name, " must be ", count, " int64 numbers in one piece");
  return static_cast<const int64_t*>(tensor.const_data_ptr());
}

struct Texts {
  const uint8_t* text;
  const int64_t *start, *length;
  int64_t count;

  Texts(const Tensor& text_, const Tensor& start_, const Tensor& length_) : count(start_.size(0)) {
    STD_TORCH_CHECK(text_.scalar_type() == ScalarType::Byte && text_.dim() == 1 && text_.is_contiguous(),
                    "text must be bytes in one piece");
    text = static_cast<const uint8_t*>(text_.const_data_ptr());
    start = integers(start_, count, "start");
    length = integers(length_, count, "length");
    const int64_t size = text_.size(0);
    for (int64_t i = 0; i < count; ++i) {
      STD_TORCH_CHECK(start[i] >= 0 && length[i] >= 0 && start[i] <= size && length[i] <= size - start[i], "mask ", i,
                      " lies outside of the text");
    }
  }

  void read_into(int64_t i, Mask& mask) const { read(text + start[i], length[i], mask); }
};

Tensor areas(const Tensor& text, const Tensor& start, const Tensor& length, const Tensor& pixels_) {
  const Texts texts(text, start, length);
  const int64_t* pixels = integers(pixels_, texts.count, "pixels");
  const Tensor result = torch::stable::new_empty(start, {texts.count});
  int64_t* out = static_cast<int64_t*>(result.mutable_data_ptr());
  for (int64_t i = 0; i < texts.count; ++i) {
    out[i] = area_of(texts.text + texts.start[i], texts.length[i], pixels[i]);
  }
  return result;
}

const int64_t* borders(const Tensor& tensor, int64_t cells, int64_t count, const char* name) {
  const int64_t* at = integers(tensor, cells + 1, name);
  for (int64_t c = 0; c < cells; ++c) {
    STD_TORCH_CHECK(at[c] >= 0 && at[c] <= at[c + 1], name, " must not fall");
  }
  STD_TORCH_CHECK(at[0] >= 0 && at[cells] <= count, name, " must lie in 0..", count);
  return at;
}

// Of each cell, every mask with every other one.
Tensor ious(const Tensor& text, const Tensor& start, const Tensor& length, const Tensor& cells_,
            const Tensor& other_text, const Tensor& other_start, const Tensor& other_length,
            const Tensor& other_cells_, const Tensor& crowd_) {
  const Texts own(text, start, length), others(other_text, other_start, other_length);
  STD_TORCH_CHECK(cells_.dim() == 1 && cells_.size(0) >= 1, "cells must have at least one border");
  const int64_t cells = cells_.size(0) - 1;
  const int64_t* at = borders(cells_, cells, own.count, "cells");
  const int64_t* other_at = borders(other_cells_, cells, others.count, "other_cells");
  const int64_t* crowd = integers(crowd_, others.count, "crowd");
  int64_t total = 0;
  for (int64_t c = 0; c < cells; ++c) total += (at[c + 1] - at[c]) * (other_at[c + 1] - other_at[c]);
  const Tensor result = torch::stable::new_empty(start, {total}, ScalarType::Double);
  double* out = static_cast<double*>(result.mutable_data_ptr());
  Mask mask;
  std::vector<Mask> beside;
  for (int64_t c = 0; c < cells; ++c) {
    const int64_t first = other_at[c], count = other_at[c + 1] - first;
    if (static_cast<int64_t>(beside.size()) < count) beside.resize(count);
    for (int64_t j = 0; j < count; ++j) others.read_into(first + j, beside[j]);
    for (int64_t i = at[c]; i < at[c + 1]; ++i) {
      own.read_into(i, mask);
      for (int64_t j = 0; j < count; ++j) {
        const int64_t both = shared(mask, beside[j]);
        const int64_t all = crowd[first + j] ? mask.area : mask.area + beside[j].area - both;
        *out++ = both ? static_cast<double>(both) / static_cast<double>(all) : 0.0;
      }
    }
  }
  return result;
}

}  // namespace
}  // namespace run_lengths
}  // namespace partglee

STABLE_TORCH_LIBRARY_FRAGMENT(PARTGLEE_NAMESPACE, m) {
  m.def("run_length_areas(Tensor text, Tensor start, Tensor length, Tensor pixels) -> Tensor");
  m.def(
      "run_length_ious(Tensor text, Tensor start, Tensor length, Tensor cells, Tensor other_text, "
      "Tensor other_start, Tensor other_length, Tensor other_cells, Tensor crowd) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(PARTGLEE_NAMESPACE, CPU, m) {
  m.impl("run_length_areas", TORCH_BOX(&partglee::run_lengths::areas));
  m.impl("run_length_ious", TORCH_BOX(&partglee::run_lengths::ious));
}
