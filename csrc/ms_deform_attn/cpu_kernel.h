// The CPU kernels of one instruction set: locate the points, sum rows forward, spread gradients backward.
//
// Included inside a namespace of one file per instruction set (see cpu_vector.h for the rule that follows from it).

// What `locate` leaves behind for one (query, head): four corner weights, already times the attention weight, and the
// rows they belong to. `row` is the upper left corner in the padded copy; `corner` are the four rows in the value
// itself, -1 where a corner lies outside.
template <class A>
struct Points {
  A* corner_weight[4];
  A* right;   // distance from the left column, in [0, 1)
  A* bottom;  // distance from the upper line
  A* weight;
  A* dots;    // backward: <gradient, row> of the four corners, together for each point
  int32_t* row;
  int32_t* corner[4];
};

constexpr int64_t kAlign = 64;

inline int64_t round_up(int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

// Hands out pieces of the scratch memory; with a null base it only counts.
struct Arena {
  char* base;
  int64_t used;
  template <class T>
  T* take(int64_t count) {
    T* piece = reinterpret_cast<T*>(base + used);
    used += round_up(count * static_cast<int64_t>(sizeof(T)));
    return piece;
  }
};

template <class A>
inline Points<A> take_points(Arena& arena, int64_t count) {
  Points<A> points;
  for (auto& piece : points.corner_weight) piece = arena.take<A>(count);
  points.right = arena.take<A>(count);
  points.bottom = arena.take<A>(count);
  points.weight = arena.take<A>(count);
  points.dots = arena.take<A>(4 * count);
  points.row = arena.take<int32_t>(count);
  for (auto& piece : points.corner) piece = arena.take<int32_t>(count);
  return points;
}

inline const PointTable<float>& table(const Plan& plan, float) { return plan.points_f; }
inline const PointTable<double>& table(const Plan& plan, double) { return plan.points_d; }

// kCount is L * P where it is known at compile time (the loop is then straight vector code), or 0.
template <bool kPacked, int kCount, class A>
inline void locate(const PointTable<A>& level, const A* locations, const A* weights, int64_t any,
                   const Points<A>& points) {
  const int64_t count = kCount ? kCount : any;
  A *w00 = points.corner_weight[0], *w01 = points.corner_weight[1];
  A *w10 = points.corner_weight[2], *w11 = points.corner_weight[3];
#pragma GCC ivdep
  for (int64_t p = 0; p < count; ++p) {
    const A width = level.width[p], height = level.height[p];
    A x = locations[2 * p] * width - A(0.5);
    A y = locations[2 * p + 1] * height - A(0.5);
    // False for NaN; a point that fails reads nothing, and x and y are safe to convert afterwards.
    const bool inside = (x > A(-1)) & (y > A(-1)) & (x < width) & (y < height);
    x = inside ? x : A(0);
    y = inside ? y : A(0);
    int32_t column = static_cast<int32_t>(x), line = static_cast<int32_t>(y);
    column -= static_cast<A>(column) > x;  // floor: x is above -1
    line -= static_cast<A>(line) > y;
    const A right = x - static_cast<A>(column), bottom = y - static_cast<A>(line);
    const A weight = weights[p];
    const A below = weight * bottom, above = weight - below;
    w01[p] = above * right;
    w00[p] = above - above * right;
    w11[p] = below * right;
    w10[p] = below - below * right;
    points.right[p] = right;
    points.bottom[p] = bottom;
    points.weight[p] = weight;
    const int32_t row = level.start[p] + line * level.stride[p] + column;
    if constexpr (kPacked) {
      points.row[p] = inside ? row : 0;
    } else {
      const bool up = inside & (line >= 0), down = inside & (line + 1 < level.rows[p]);
      const bool left = column >= 0, aside = column + 1 < level.columns[p];
      points.corner[0][p] = up & left ? row : -1;
      points.corner[1][p] = up & aside ? row + 1 : -1;
      points.corner[2][p] = down & left ? row + level.stride[p] : -1;
      points.corner[3][p] = down & aside ? row + level.stride[p] + 1 : -1;
    }
  }
}

template <bool kPacked, class A>
inline void locate(const Plan& plan, int64_t query, int64_t image, int64_t head, const Points<A>& points) {
  const int64_t count = plan.L * plan.P;
  const int64_t first = ((image * plan.Q + query) * plan.M + head) * count;
  const A* locations = static_cast<const A*>(plan.locations) + 2 * first;
  const A* weights = static_cast<const A*>(plan.weights) + first;
  const PointTable<A>& level = table(plan, A());
  if (count == 16) {
    locate<kPacked, 16>(level, locations, weights, 16, points);
  } else {
    locate<kPacked, 0>(level, locations, weights, count, points);
  }
}

// The four rows of point p. Rows are `step` elements apart; a corner outside the map gets `zeros`.
template <bool kPacked, class E, class A>
inline void corners(const Points<A>& points, const int32_t* stride, int64_t p, E* rows, int64_t step, E* zeros,
                    E* corner[4]) {
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

// ---- forward ----

// out[0 .. D) of one (query, head). D is the number of channels where it is known at compile time, or 0.
template <bool kPacked, int D, class E, class A>
inline void sum_rows(const Points<A>& points, const int32_t* stride, int64_t count, const E* rows, int64_t step,
                     const E* zeros, int64_t channels, A* out) {
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
    for (int v = 0; v < V; ++v) store<W>(upper[v] + lower[v], out + v * W);
  } else {
    for (int64_t c = 0; c < channels; ++c) out[c] = 0;
    for (int64_t p = 0; p < count; ++p) {
      corners<kPacked>(points, stride, p, rows, step, zeros, corner);
      const A w00 = points.corner_weight[0][p], w01 = points.corner_weight[1][p];
      const A w10 = points.corner_weight[2][p], w11 = points.corner_weight[3][p];
#pragma GCC ivdep
      for (int64_t c = 0; c < channels; ++c) {
        out[c] += w00 * widen(corner[0][c]) + w01 * widen(corner[1][c]) + w10 * widen(corner[2][c]) +
                  w11 * widen(corner[3][c]);
      }
    }
  }
}

// ---- backward ----

// Adds weight * gradient to the four gradient rows of every point in [begin, end) and leaves the four dot products.
template <bool kPacked, int D, class E, class A>
inline void spread_rows(const Points<A>& points, const int32_t* stride, int64_t begin, int64_t end, const E* rows,
                        int64_t step, const E* zeros, A* grad_rows, int64_t grad_step, A* nowhere, int64_t channels,
                        const A* grad) {
  const E* corner[4];
  A* target[4];
  if constexpr (D > 0) {
    constexpr int W = D < kLanes ? D : kLanes;
    constexpr int V = D / W;
    Vec<A, W> g[V];
    for (int v = 0; v < V; ++v) g[v] = load<W>(grad + v * W);
    for (int64_t p = begin; p < end; ++p) {
      corners<kPacked>(points, stride, p, rows, step, zeros, corner);
      corners<kPacked>(points, stride, p, grad_rows, grad_step, nowhere, target);
      Vec<A, W> dot[4] = {};
      for (int c = 0; c < 4; ++c) {
        const A weight = points.corner_weight[c][p];
        for (int v = 0; v < V; ++v) {
          dot[c] += g[v] * load<W>(corner[c] + v * W);
          A* to = target[c] + v * W;
          store<W>(load<W>(to) + weight * g[v], to);
        }
      }
      sum_each<W>(dot[0], dot[1], dot[2], dot[3], points.dots + 4 * p);
    }
  } else {
    for (int64_t p = begin; p < end; ++p) {
      corners<kPacked>(points, stride, p, rows, step, zeros, corner);
      corners<kPacked>(points, stride, p, grad_rows, grad_step, nowhere, target);
      for (int c = 0; c < 4; ++c) {
        const A weight = points.corner_weight[c][p];
        A dot = 0;
        for (int64_t i = 0; i < channels; ++i) {
          dot += grad[i] * widen(corner[c][i]);
          target[c][i] += weight * grad[i];
        }
        points.dots[4 * p + c] = dot;
      }
    }
  }
}

// Gradients of the locations and weights of the points in [begin, end) from their dot products.
template <class A>
inline void finish_points(const Plan& plan, int64_t query, int64_t image, int64_t head, int64_t begin, int64_t end,
                          const Points<A>& points) {
  const int64_t first = ((image * plan.Q + query) * plan.M + head) * (plan.L * plan.P);
  A* grad_locations = static_cast<A*>(plan.grad_locations) + 2 * first;
  A* grad_weights = static_cast<A*>(plan.grad_weights) + first;
  const PointTable<A>& level = table(plan, A());
#pragma GCC ivdep
  for (int64_t p = begin; p < end; ++p) {
    const A d00 = points.dots[4 * p], d01 = points.dots[4 * p + 1];
    const A d10 = points.dots[4 * p + 2], d11 = points.dots[4 * p + 3];
    const A right = points.right[p], bottom = points.bottom[p], weight = points.weight[p];
    const A left = 1 - right, above = 1 - bottom;
    grad_weights[p] = above * (left * d00 + right * d01) + bottom * (left * d10 + right * d11);
    grad_locations[2 * p] = level.width[p] * weight * (above * (d01 - d00) + bottom * (d11 - d10));
    grad_locations[2 * p + 1] = level.height[p] * weight * (left * (d10 - d00) + right * (d11 - d01));
  }
}

// ---- the padded copy of one head ----

template <class From, class To>
inline void pack_head(const Plan& plan, const From* value, int64_t image, int64_t head, To* rows) {
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
inline void unpack_head(const Plan& plan, const A* rows, int64_t image, int64_t head, int64_t level_begin,
                        int64_t level_end, To* value) {
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
