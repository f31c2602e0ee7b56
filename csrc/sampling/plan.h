// What a call of sampling_points works on, and the kernels of one instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace partglee {
namespace sampling {

// Rows are queries of all images, one after the other. Per row there are M heads, L levels and P points.
struct Plan {
  int64_t heads, levels, points;
  int64_t shared;             // 1 where all levels have one reference, else L
  int64_t coordinates;        // of a reference: 2 (x, y), or 4 (cx, cy, w, h)
  const float* reference;     // (rows, shared, coordinates)
  const float* size;          // (L, 2) width, height of the levels in pixels
  const float* offsets;       // (rows, M, L, P, 2)
  const float* logits;        // (rows, M, L * P)
  float* locations;           // (rows, M, L, P, 2)
  float* weights;             // (rows, M, L * P)
};

// With `attention`, which weights were, the derivative: `offsets` and `logits` of the plan are gradients of locations
// and weights, its `locations` and `weights` those of offsets and logits that come out.
struct Kernels {
  const char* name;
  size_t (*scratch)(const Plan&);  // bytes
  void (*run)(const Plan&, const float* attention, int64_t begin, int64_t end, void* scratch);
};

extern const Kernels kBaselineKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;

}  // namespace sampling
}  // namespace partglee
