// What is done to rows of channels: summed forward, spread backward, copied between layouts.
//
// Included after cpu_points.h, in the same namespace. E: element type of the rows that are read. T: of the value and
// the output. A: float, or double for double. D: channels where they are known at compile time, or 0.

// The four rows of point p. Rows are `step` elements apart; a corner outside the map gets `zeros`.
template <bool kPacked, class E, class A>
inline void corners(const Points<A>& points, const int32_t* stride, int64_t p, const E* rows, int64_t step,
                    const E* zeros, const E* corner[4]) {
  if constexpr (kPacked) {
    corner[0] = rows + points.row[p] * step;
    corner[1] = corner[0] + step;
    corner[2] = corner[0] + stride[p] * step;
    corner[3] = corner[2] + step;
  } else {
    for (int c = 0; c < 4; ++c) {
      const int32_t row = points.corner[c][p];
      corner[c] = row < 0 ? zeros : rows + row * step;
    }
  }
}

// Asks for all rows of the points, `bytes` each, ahead of their use: they are scattered over more memory than caches
// and page tables cover, and the points of one query alone leave too few reads under way.
template <class E, class A>
__attribute__((noinline)) void prefetch_rows(const Points<A>& points, int64_t begin, int64_t end, const E* rows,
                                             int64_t step, int64_t bytes) {
  for (int c = 0; c < 4; ++c) {
    for (int64_t p = begin; p < end; ++p) {
      const int32_t row = points.corner[c][p];
      const char* from = reinterpret_cast<const char*>(rows + (row < 0 ? 0 : row) * step);
      for (int64_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(from + byte);
    }
  }
}

// ---- forward ----

// out[0 .. D) of one (query, head).
template <bool kPacked, int D, class T, class E, class A>
void sum_rows(const Points<A>& points, const int32_t* stride, int64_t count, const E* rows, int64_t step,
              const E* zeros, int64_t channels, A* sum, T* out) {
  const E* corner[4];
  if constexpr (D > 0) {
    constexpr int W = D < kLanes ? D : kLanes;
    constexpr int V = D / W;
    Vec<A, W> upper[V] = {}, lower[V] = {};  // two sums: shorter chains of dependent additions
    for (int64_t p = 0; p < count; ++p) {
      corners<kPacked>(points, stride, p, rows, step, zeros, corner);
      const A w00 = points.corner_weight[0][p], w01 = points.corner_weight[1][p];
      const A w10 = points.corner_weight[2][p], w11 = points.corner_weight[3][p];
      for (int v = 0; v < V; ++v) {
        upper[v] += w00 * load<W>(corner[0] + v * W);
        lower[v] += w10 * load<W>(corner[2] + v * W);
        upper[v] += w01 * load<W>(corner[1] + v * W);
        lower[v] += w11 * load<W>(corner[3] + v * W);
      }
    }
    for (int v = 0; v < V; ++v) store<W>(upper[v] + lower[v], sum + v * W);
    convert(sum, out, D);
  } else {
    for (int64_t c = 0; c < channels; ++c) sum[c] = 0;
    for (int64_t p = 0; p < count; ++p) {
      corners<kPacked>(points, stride, p, rows, step, zeros, corner);
      const A w00 = points.corner_weight[0][p], w01 = points.corner_weight[1][p];
      const A w10 = points.corner_weight[2][p], w11 = points.corner_weight[3][p];
#pragma GCC ivdep
      for (int64_t c = 0; c < channels; ++c) {
        sum[c] += w00 * widen(corner[0][c]) + w01 * widen(corner[1][c]) + w10 * widen(corner[2][c]) +
                  w11 * widen(corner[3][c]);
      }
    }
    convert(sum, out, channels);
  }
}

// ---- backward ----

// Half types are summed in float slots, float and double in the gradient of the value itself.
template <class E, class A>
constexpr bool kSlots = sizeof(E) < sizeof(A);

// Adds weight * gradient to the four gradient rows of every point in [begin, end) and leaves the four dot products.
// What falls outside goes `nowhere`.
template <bool kPacked, int D, class E, class A>
void spread_rows(const Points<A>& points, const int32_t* stride, int64_t begin, int64_t end, const E* rows,
                 int64_t step, const E* zeros, A* grad_rows, int64_t grad_step, A* nowhere, int64_t channels,
                 const A* grad) {
  const E* corner[4];
  const auto target = [&](int c, int64_t p) {
    if constexpr (kPacked) {
      return grad_rows + (points.row[p] + (c & 1) + (c & 2 ? stride[p] : 0)) * grad_step;
    } else if constexpr (kSlots<E, A>) {
      return grad_rows + points.slot[c][p] * grad_step;
    } else {
      return points.corner[c][p] < 0 ? nowhere : grad_rows + points.corner[c][p] * grad_step;
    }
  };
  if constexpr (D > 0) {
    constexpr int W = D < kLanes ? D : kLanes;
    constexpr int V = D / W;
    Vec<A, W> g[V];
    for (int v = 0; v < V; ++v) g[v] = load<W>(grad + v * W);
    for (int64_t p = begin; p < end; ++p) {
      corners<kPacked>(points, stride, p, rows, step, zeros, corner);
      Vec<A, W> dot[4] = {};
      for (int c = 0; c < 4; ++c) {
        const A weight = points.corner_weight[c][p];
        A* to = target(c, p);
        for (int v = 0; v < V; ++v) {
          dot[c] += g[v] * load<W>(corner[c] + v * W);
          store<W>(load<W>(to + v * W) + weight * g[v], to + v * W);
        }
      }
      sum_each<W>(dot[0], dot[1], dot[2], dot[3], points.dots + 4 * p);
    }
  } else {
    for (int64_t p = begin; p < end; ++p) {
      corners<kPacked>(points, stride, p, rows, step, zeros, corner);
      for (int c = 0; c < 4; ++c) {
        const A weight = points.corner_weight[c][p];
        A* to = target(c, p);
        A dot = 0;
        for (int64_t i = 0; i < channels; ++i) {
          dot += grad[i] * widen(corner[c][i]);
          to[i] += weight * grad[i];
        }
        points.dots[4 * p + c] = dot;
      }
    }
  }
}

// ---- the padded copy of one head ----

template <class From, class To>
void pack_head(const Plan& plan, const From* value, int64_t image, int64_t head, To* rows) {
  const From* source = value + (image * plan.S * plan.M + head) * plan.D;
  for (int64_t l = 0; l < plan.L; ++l) {
    const PaddedLevel& level = plan.levels[l];
    for (int64_t y = 0; y < level.height; ++y) {
      const From* from = source + (level.source + y * level.width) * plan.M * plan.D;
      To* to = rows + (level.target + y * (level.width + 1)) * plan.D;
      for (int64_t x = 0; x < level.width; ++x) convert(from + x * plan.M * plan.D, to + x * plan.D, plan.D);
    }
  }
}

template <class A, class To>
void unpack_head(const Plan& plan, const A* rows, int64_t image, int64_t head, int64_t level_begin, int64_t level_end,
                 To* value) {
  To* target = value + (image * plan.S * plan.M + head) * plan.D;
  for (int64_t l = level_begin; l < level_end; ++l) {
    const PaddedLevel& level = plan.levels[l];
    for (int64_t y = 0; y < level.height; ++y) {
      const A* from = rows + (level.target + y * (level.width + 1)) * plan.D;
      To* to = target + (level.source + y * level.width) * plan.M * plan.D;
      for (int64_t x = 0; x < level.width; ++x) convert(from + x * plan.D, to + x * plan.M * plan.D, plan.D);
    }
  }
}

// ---- the compact sums of one head ----

// Writes the gradient of the value for one head's rows [begin, end): each byte once. Slot 0 is a row of zeros, for rows
// that no point touched. A large gradient goes past the caches: reading its old contents into them first would cost
// more than all sums.
template <class T, class A, int D>
void write_slots(const A* sums, const int32_t* slot_of_row, int64_t begin, int64_t end, int64_t step, int64_t channels,
                 bool past_caches, T* to) {
  constexpr int kBytes = D * static_cast<int>(sizeof(T));
  if constexpr (D > 0 && kBytes % 64 == 0) {
    if (past_caches && reinterpret_cast<uintptr_t>(to) % 64 == 0) {
      for (int64_t row = begin; row < end; ++row) {
        alignas(64) T converted[D];
        convert(sums + slot_of_row[row] * int64_t{D}, converted, D);
        stream<kBytes>(converted, to + row * step);
      }
      finish_streams();
      return;
    }
  }
  for (int64_t row = begin; row < end; ++row) {
    convert(sums + slot_of_row[row] * (D ? D : channels), to + row * step, D ? D : channels);
  }
}
