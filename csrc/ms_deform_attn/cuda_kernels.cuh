// CUDA kernels: a group of threads per (image, query, head), kVec channels per thread in one 16-byte load.
//
// Letters as in cpu_plan.h. T is the type of the value, A of locations, weights and sums (float; double for double).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "geometry.h"

namespace partglee {

struct CudaSizes {
  int64_t N, S, M, D, Q, L, P;
  int group;  // threads per (image, query, head): a power of two up to 32
};

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }
__device__ __forceinline__ void narrow(float x, float* to) { *to = x; }
__device__ __forceinline__ void narrow(double x, double* to) { *to = x; }
__device__ __forceinline__ void narrow(float x, __nv_bfloat16* to) { *to = __float2bfloat16_rn(x); }
__device__ __forceinline__ void narrow(float x, __half* to) { *to = __float2half_rn(x); }

template <class T, int kVec>
struct alignas(sizeof(T) * kVec) Pack {
  T element[kVec];
};

template <class T, int kVec>
__device__ __forceinline__ Pack<T, kVec> load(const T* from) {
  if constexpr (sizeof(T) * kVec == 16) {
    const uint4 bits = __ldg(reinterpret_cast<const uint4*>(from));
    return *reinterpret_cast<const Pack<T, kVec>*>(&bits);
  } else {
    return *reinterpret_cast<const Pack<T, kVec>*>(from);
  }
}

template <class A, int kVec>
__device__ __forceinline__ void add_atomically(A* to, const A (&values)[kVec]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if constexpr (sizeof(A) == 4 && kVec % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kVec; i += 4) {
      atomicAdd(reinterpret_cast<float4*>(to + i), make_float4(values[i], values[i + 1], values[i + 2], values[i + 3]));
    }
    return;
  }
#endif
#pragma unroll
  for (int i = 0; i < kVec; ++i) atomicAdd(to + i, values[i]);
}

// One level as the device sees it. `fits` is false where it would reach outside the S rows: such a call gives NaN,
// because telling the host would mean waiting for the device.
struct Level {
  int height, width;
  int64_t start;
  bool fits;
};

__device__ __forceinline__ Level level_at(const int64_t* shapes, const int64_t* starts, int64_t level, int64_t rows) {
  const int64_t height = __ldg(shapes + 2 * level), width = __ldg(shapes + 2 * level + 1);
  const int64_t start = __ldg(starts + level);
  const bool sized = height >= 0 && width >= 0 && height <= INT32_MAX && width <= INT32_MAX;
  const bool fits = sized && start >= 0 && start <= rows && height * width <= rows - start;
  return {fits ? static_cast<int>(height) : 0, fits ? static_cast<int>(width) : 0, fits ? start : 0, fits};
}

template <class A>
struct Corners {
  bool inside[4];
  int64_t row[4];
  A weight[4];  // bilinear, without the attention weight
};

template <class A>
__device__ __forceinline__ Corners<A> corners_of(const Place<A>& at, const Level& level) {
  const bool up = at.inside && at.line >= 0, down = at.inside && at.line + 1 < level.height;
  const bool left = at.column >= 0, aside = at.column + 1 < level.width;
  const int64_t row = level.start + static_cast<int64_t>(at.line) * level.width + at.column;
  const A above = 1 - at.bottom, before = 1 - at.right;
  return {{up && left, up && aside, down && left, down && aside},
          {row, row + 1, row + level.width, row + level.width + 1},
          {above * before, above * at.right, at.bottom * before, at.bottom * at.right}};
}

template <class T, class A, int kVec>
__global__ void __launch_bounds__(256)
    forward_kernel(CudaSizes sizes, const T* __restrict__ value, const int64_t* __restrict__ shapes,
                   const int64_t* __restrict__ starts, const A* __restrict__ locations, const A* __restrict__ weights,
                   T* __restrict__ out) {
  const int64_t chunks = sizes.D / kVec;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t item = thread / chunks;  // (image, query, head)
  if (item >= sizes.N * sizes.Q * sizes.M) return;
  const int64_t channel = thread % chunks * kVec;
  const int64_t head = item % sizes.M, image = item / sizes.M / sizes.Q;
  const int64_t step = sizes.M * sizes.D;
  const T* rows = value + (image * sizes.S * sizes.M + head) * sizes.D + channel;
  int64_t point = item * sizes.L * sizes.P, covered = 0;
  bool fits = true;
  A sum[kVec] = {};
  for (int64_t l = 0; l < sizes.L; ++l) {
    const Level level = level_at(shapes, starts, l, sizes.S);
    fits = fits && level.fits;
    covered += static_cast<int64_t>(level.height) * level.width;
    for (int64_t p = 0; p < sizes.P; ++p, ++point) {
      const Place<A> at = place(__ldg(locations + 2 * point), __ldg(locations + 2 * point + 1), level.height, level.width);
      const Corners<A> corner = corners_of(at, level);
      const A weight = __ldg(weights + point);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        if (!corner.inside[c]) continue;
        const Pack<T, kVec> row = load<T, kVec>(rows + corner.row[c] * step);
        const A factor = weight * corner.weight[c];
#pragma unroll
        for (int i = 0; i < kVec; ++i) sum[i] += factor * static_cast<A>(widen(row.element[i]));
      }
    }
  }
  const bool broken = !fits || covered != sizes.S;
  Pack<T, kVec> result;
#pragma unroll
  for (int i = 0; i < kVec; ++i) narrow(broken ? static_cast<A>(NAN) : sum[i], &result.element[i]);
  *reinterpret_cast<Pack<T, kVec>*>(out + item * sizes.D + channel) = result;
}

// grad_value is of type A and zero beforehand. All threads of a group stay together for the shuffles.
template <class T, class A, int kVec>
__global__ void __launch_bounds__(256)
    backward_kernel(CudaSizes sizes, const T* __restrict__ grad_out, const T* __restrict__ value,
                    const int64_t* __restrict__ shapes, const int64_t* __restrict__ starts,
                    const A* __restrict__ locations, const A* __restrict__ weights, A* __restrict__ grad_value,
                    A* __restrict__ grad_locations, A* __restrict__ grad_weights) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t items = sizes.N * sizes.Q * sizes.M;
  const bool active = thread / sizes.group < items;
  const int64_t item = active ? thread / sizes.group : items - 1;
  const int lane = threadIdx.x % sizes.group;
  const int64_t head = item % sizes.M, image = item / sizes.M / sizes.Q;
  const int64_t step = sizes.M * sizes.D, first = (image * sizes.S * sizes.M + head) * sizes.D;
  int64_t point = item * sizes.L * sizes.P;
  for (int64_t l = 0; l < sizes.L; ++l) {
    const Level level = level_at(shapes, starts, l, sizes.S);
    for (int64_t p = 0; p < sizes.P; ++p, ++point) {
      const Place<A> at = place(__ldg(locations + 2 * point), __ldg(locations + 2 * point + 1), level.height, level.width);
      const Corners<A> corner = corners_of(at, level);
      const A weight = __ldg(weights + point);
      A dot[4] = {};
      for (int64_t channel = lane * kVec; channel < sizes.D; channel += sizes.group * kVec) {
        const Pack<T, kVec> packed = load<T, kVec>(grad_out + item * sizes.D + channel);
        A grad[kVec], add[kVec];
#pragma unroll
        for (int i = 0; i < kVec; ++i) grad[i] = static_cast<A>(widen(packed.element[i]));
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          if (!corner.inside[c]) continue;
          const int64_t place_of_row = first + corner.row[c] * step + channel;
          const Pack<T, kVec> row = load<T, kVec>(value + place_of_row);
          const A factor = weight * corner.weight[c];
#pragma unroll
          for (int i = 0; i < kVec; ++i) {
            dot[c] += grad[i] * static_cast<A>(widen(row.element[i]));
            add[i] = factor * grad[i];
          }
          if (active) add_atomically<A, kVec>(grad_value + place_of_row, add);
        }
      }
      for (int offset = sizes.group / 2; offset > 0; offset /= 2) {
#pragma unroll
        for (int c = 0; c < 4; ++c) dot[c] += __shfl_xor_sync(0xffffffffu, dot[c], offset);
      }
      if (active && lane == 0) {
        const A before = 1 - at.right, above = 1 - at.bottom;
        grad_weights[point] = corner.weight[0] * dot[0] + corner.weight[1] * dot[1] + corner.weight[2] * dot[2] +
                              corner.weight[3] * dot[3];
        grad_locations[2 * point] =
            level.width * weight * (above * (dot[1] - dot[0]) + at.bottom * (dot[3] - dot[2]));
        grad_locations[2 * point + 1] =
            level.height * weight * (before * (dot[2] - dot[0]) + at.right * (dot[3] - dot[1]));
      }
    }
  }
}

}  // namespace partglee
