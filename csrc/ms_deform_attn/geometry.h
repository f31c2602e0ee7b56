// Where a sampling point falls: the arithmetic of one point, for the CUDA kernels and, compiled for the host, for tests.
#pragma once

#if defined(__CUDACC__)
#define PARTGLEE_DEVICE __host__ __device__ __forceinline__
#else
#define PARTGLEE_DEVICE inline
#endif

namespace partglee {

// A: float, or double. (column, line) is the upper left corner; it may be -1, and its neighbours may be one past the end.
template <class A>
struct Place {
  bool inside;  // false: reads nothing, contributes nothing
  int column, line;
  A right, bottom;  // distances from that corner, in [0, 1)
};

// (x, y) in [0, 1] of a map of height x width pixels; NaN and infinity are outside.
template <class A>
PARTGLEE_DEVICE Place<A> place(A x, A y, int height, int width) {
  x = x * static_cast<A>(width) - A(0.5);
  y = y * static_cast<A>(height) - A(0.5);
  Place<A> found;
  found.inside = x > A(-1) && y > A(-1) && x < static_cast<A>(width) && y < static_cast<A>(height);
  if (!found.inside) x = y = A(0);  // safe to convert
  found.column = static_cast<int>(x);
  found.line = static_cast<int>(y);
  if (static_cast<A>(found.column) > x) --found.column;  // floor: x is above -1
  if (static_cast<A>(found.line) > y) --found.line;
  found.right = x - static_cast<A>(found.column);
  found.bottom = y - static_cast<A>(found.line);
  return found;
}

}  // namespace partglee
