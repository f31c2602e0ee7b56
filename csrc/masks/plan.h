// What a call of enlarge_masks works on, and the kernels of one instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace partglee {
namespace masks {

// Interpolation along one axis: output i is the sum over k < taps of its k-th weight times input first[i] + k.
// `first` never falls. Weights lie as (to, taps) for rows, as (taps, to) for columns.
struct Axis {
  int64_t from, to, taps;
  const int32_t* first;
  const float* weight;
};

struct Plan {
  int64_t count;  // of masks
  Axis rows, columns;
  const float* logits;  // (count, rows.from, columns.from)
  const int64_t* windows;  // (count, 4) top, bottom, left, right: a mask ends there. Or null
  bool* inside;         // (count, rows.to, columns.to), or null
  double* area;         // (count,) pixels above zero, or null
  double* sum;          // (count,) of their probabilities, or null where area is
};

struct Kernels {
  const char* name;
  size_t (*scratch)(const Plan&);  // bytes
  void (*run)(const Plan&, int64_t begin, int64_t end, void* scratch);
};

extern const Kernels kBaselineKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;

}  // namespace masks
}  // namespace partglee
