// The sampling points of one (query, head): where they fall, which gradient rows they touch, their own gradients.
//
// Included inside a namespace of one file per instruction set (see cpu_vector.h for the rule that follows from it).
// What a (query, head) calls is compiled once per element type and kept out of line: inlined into every task it would
// only multiply the time to compile.

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
  int32_t* slot[4];  // backward of half types without a padded copy: where the four gradient rows are summed
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
  for (auto& piece : points.slot) piece = arena.take<int32_t>(count);
  return points;
}

inline const PointTable<float>& table(const Plan& plan, float) { return plan.points_f; }
inline const PointTable<double>& table(const Plan& plan, double) { return plan.points_d; }

// kCount is L * P where it is known at compile time (the loop is then straight vector code), or 0.
template <bool kPacked, int kCount, class A>
__attribute__((noinline)) void locate_points(const PointTable<A>& level, const A* locations, const A* weights,
                                             int64_t any, const Points<A>& points) {
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
  if (count == 16 && sizeof(A) == sizeof(float)) {
    locate_points<kPacked, 16>(level, locations, weights, 16, points);
  } else {
    locate_points<kPacked, 0>(level, locations, weights, count, points);
  }
}

// Gives each row that the points in [begin, end) touch a slot in the compact sums of its head, in the order of first
// touch; corners outside share the slot that slot_of_row[outside] holds. Returns the next free slot. Without branches:
// which rows are new is as random as the points.
template <class A>
inline int32_t assign_slots(const Points<A>& points, int64_t begin, int64_t end, int32_t outside, int32_t next,
                            int32_t* slot_of_row) {
  for (int c = 0; c < 4; ++c) {
    for (int64_t p = begin; p < end; ++p) {
      const int32_t row = points.corner[c][p];
      const int32_t entry = row < 0 ? outside : row;
      const int32_t known = slot_of_row[entry];
      const int32_t fresh = -static_cast<int32_t>(known == 0);
      const int32_t slot = known | (next & fresh);
      next -= fresh;
      slot_of_row[entry] = slot;
      points.slot[c][p] = slot;
    }
  }
  return next;
}

// Gradients of the locations and weights of the points in [begin, end) from their dot products.
template <class A>
__attribute__((noinline)) void finish_points(const Plan& plan, int64_t query, int64_t image, int64_t head,
                                             int64_t begin, int64_t end, const Points<A>& points) {
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
