// What one CPU call needs, worked out once by the dispatcher (cpu.cpp) and read by the kernels (cpu_tasks.h).
//
// N images, S value rows, M heads, D channels per head, Q queries, L levels, P points per level and head.
#pragma once

#include <cstddef>
#include <cstdint>

namespace partglee {

enum class ElementType { kFloat, kBFloat16, kHalf, kDouble };

// The constants of a point's level, one entry for each of the L * P points, so that all points of a query are
// computed in the lanes of one vector loop. A is float, or double for double values.
template <class A>
struct PointTable {
  const A* width;
  const A* height;
  const int32_t* columns;  // w of the level
  const int32_t* rows;     // h of the level
  const int32_t* start;    // first row of the level: in the value, or of the padded copy
  const int32_t* stride;   // rows from one image line to the next: w, or w + 1 in the padded copy
};

// A head's rows copied together, D channels each: kMargin lines of zeros, then every level with one row of zeros
// on the left of each line, one line above and one below. Points outside their map read the leading zeros.
struct PaddedLevel {
  int64_t source;  // first row in the value
  int64_t target;  // row of pixel (0, 0) in the copy
  int64_t height, width;
};

struct Plan {
  int64_t N, S, M, D, Q, L, P;
  ElementType type;
  const void* value;
  const void* locations;
  const void* weights;
  const void* grad_out;  // backward only, as the three below
  void* out;
  void* grad_value;
  void* grad_locations;
  void* grad_weights;
  PointTable<float> points_f;
  PointTable<double> points_d;
  const PaddedLevel* levels;
  int64_t padded_rows;
  const int32_t* order;  // the order in which queries are taken, or null for 0 .. Q-1
  bool packed;           // copy each head's rows together first
  int64_t blocks;        // forward: parts of the query range; backward: 1, or L parts of the level range
  // Backward of half types, not packed: rows of sums a task may need, and whether the gradient of the value is too
  // large for caches.
  int64_t slots;
  bool past_caches;
};

// Kernels of one instruction set. A task is (image, head, block), or (image, block) forward if not packed; a call does
// tasks [begin, end) on one thread with its own scratch memory, 64-byte aligned.
struct Kernels {
  const char* name;
  size_t (*forward_scratch)(const Plan&);
  void (*forward)(const Plan&, int64_t begin, int64_t end, char* scratch);
  size_t (*backward_scratch)(const Plan&);
  void (*backward)(const Plan&, int64_t begin, int64_t end, char* scratch);
};

extern const Kernels kBaselineKernels;
#if defined(PARTGLEE_X86)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

}  // namespace partglee
