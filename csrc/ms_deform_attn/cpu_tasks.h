// The tasks of one instruction set: which (image, head, block) a thread works on, and the choice of kernel by
// element type and number of channels. Included after cpu_kernel.h, in the same namespace.

// T: element type of the value. E: element type of the rows that are summed (T, or what a padded copy holds).
// A: float, or double for double. D: channels at compile time, or 0.
template <class T, class E, class A, bool kPacked, int D>
inline int64_t forward_tasks(const Plan& plan, int64_t begin, int64_t end, char* scratch) {
  Arena arena{scratch, 0};
  const Points<A> points = take_points<A>(arena, plan.L * plan.P);
  A* sum = arena.take<A>(plan.D);
  E* zeros = arena.take<E>(kPacked ? 0 : plan.D);
  E* copy = arena.take<E>(kPacked ? plan.padded_rows * plan.D : 0);
  if (begin == end) return arena.used;
  if constexpr (kPacked) {
    __builtin_memset(copy, 0, static_cast<size_t>(plan.padded_rows * plan.D) * sizeof(E));
  } else {
    __builtin_memset(zeros, 0, static_cast<size_t>(plan.D) * sizeof(E));
  }
  const int32_t* stride = table(plan, A()).stride;
  const int64_t count = plan.L * plan.P;
  const T* value = static_cast<const T*>(plan.value);
  int64_t packed = -1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t pair = task / plan.blocks, block = task % plan.blocks;
    const int64_t image = pair / plan.M, head = pair % plan.M;
    const E* rows;
    int64_t step;
    if constexpr (kPacked) {
      if (packed != pair) pack_head(plan, value, image, head, copy);
      packed = pair;
      rows = copy;
      step = plan.D;
    } else {
      rows = value + (image * plan.S * plan.M + head) * plan.D;
      step = plan.M * plan.D;
    }
    const int64_t last = plan.Q * (block + 1) / plan.blocks;
    for (int64_t i = plan.Q * block / plan.blocks; i < last; ++i) {
      const int64_t query = plan.order ? plan.order[i] : i;
      locate<kPacked>(plan, query, image, head, points);
      T* out = static_cast<T*>(plan.out) + ((image * plan.Q + query) * plan.M + head) * plan.D;
      sum_rows<kPacked, D>(points, stride, count, rows, step, zeros, plan.D, sum);
      convert(sum, out, plan.D);
    }
  }
  return arena.used;
}

// A task owns the rows of its head (and, with several blocks, of its levels) in the gradient of the value, and the
// location and weight gradients of the same points: no two threads write to one place, so no atomics, and each sum
// is taken in the order of the queries whatever the number of threads.
template <class T, class E, class A, bool kPacked, int D>
inline int64_t backward_tasks(const Plan& plan, int64_t begin, int64_t end, char* scratch) {
  // Without a padded copy, float and double gradients are summed in place; the half types need a float sum.
  constexpr bool kInPlace = !kPacked && sizeof(T) == sizeof(A);
  Arena arena{scratch, 0};
  const Points<A> points = take_points<A>(arena, plan.L * plan.P);
  A* grad = arena.take<A>(plan.D);
  E* zeros = arena.take<E>(plan.D);
  A* nowhere = arena.take<A>(plan.D);
  E* copy = arena.take<E>(kPacked ? plan.padded_rows * plan.D : 0);
  const int64_t own_rows = kPacked ? plan.padded_rows : kInPlace ? 0 : plan.S;
  A* own = arena.take<A>(own_rows * plan.D);
  // Few queries touch few rows: one flag per row (the first is for corners outside) says which to round and clear.
  constexpr bool kFlags = !kPacked && !kInPlace;
  uint8_t* touched = arena.take<uint8_t>(kFlags ? plan.S + 1 : 0);
  if (begin == end) return arena.used;
  if constexpr (kPacked) {
    __builtin_memset(copy, 0, static_cast<size_t>(plan.padded_rows * plan.D) * sizeof(E));
  } else {
    __builtin_memset(zeros, 0, static_cast<size_t>(plan.D) * sizeof(E));
  }
  if constexpr (kFlags) {
    __builtin_memset(own, 0, static_cast<size_t>(own_rows * plan.D) * sizeof(A));
    __builtin_memset(touched, 0, static_cast<size_t>(plan.S + 1));
  }
  const int32_t* stride = table(plan, A()).stride;
  const T* value = static_cast<const T*>(plan.value);
  T* grad_value = static_cast<T*>(plan.grad_value);
  int64_t packed = -1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t pair = task / plan.blocks, block = task % plan.blocks;
    const int64_t image = pair / plan.M, head = pair % plan.M;
    const int64_t level_begin = plan.L * block / plan.blocks, level_end = plan.L * (block + 1) / plan.blocks;
    const int64_t slice = (image * plan.S * plan.M + head) * plan.D;
    const E* rows;
    A* grad_rows;
    int64_t step, grad_step;
    if constexpr (kPacked) {
      if (packed != pair) pack_head(plan, value, image, head, copy);
      packed = pair;
      rows = copy;
      step = plan.D;
    } else {
      rows = value + slice;
      step = plan.M * plan.D;
    }
    if constexpr (kInPlace) {
      grad_rows = grad_value + slice;
      grad_step = plan.M * plan.D;
    } else {
      if constexpr (kPacked) __builtin_memset(own, 0, static_cast<size_t>(own_rows * plan.D) * sizeof(A));
      grad_rows = own;
      grad_step = plan.D;
    }
    for (int64_t i = 0; i < plan.Q; ++i) {
      const int64_t query = plan.order ? plan.order[i] : i;
      locate<kPacked>(plan, query, image, head, points);
      convert(static_cast<const T*>(plan.grad_out) + ((image * plan.Q + query) * plan.M + head) * plan.D, grad,
              plan.D);
      spread_rows<kPacked, D>(points, stride, level_begin * plan.P, level_end * plan.P, rows, step, zeros, grad_rows,
                              grad_step, nowhere, plan.D, grad);
      if constexpr (kFlags) {
        for (int c = 0; c < 4; ++c) {
          for (int64_t p = level_begin * plan.P; p < level_end * plan.P; ++p) touched[points.corner[c][p] + 1] = 1;
        }
      }
      finish_points(plan, query, image, head, level_begin * plan.P, level_end * plan.P, points);
    }
    if constexpr (kPacked) {
      unpack_head(plan, own, image, head, level_begin, level_end, grad_value);
    } else if constexpr (kFlags) {
      for (int64_t l = level_begin; l < level_end; ++l) {
        const PaddedLevel& level = plan.levels[l];
        const int64_t last = level.source + level.height * level.width;
        for (int64_t row = level.source; row < last; ++row) {
          T* to = grad_value + slice + row * plan.M * plan.D;
          if (touched[row + 1]) {
            convert(own + row * plan.D, to, plan.D);
            __builtin_memset(own + row * plan.D, 0, static_cast<size_t>(plan.D) * sizeof(A));
            touched[row + 1] = 0;
          } else {
            __builtin_memset(to, 0, static_cast<size_t>(plan.D) * sizeof(T));
          }
        }
      }
    }
  }
  return arena.used;
}

// One place lists the compiled cases: each element type, in place or packed, and 8, 16, 32, 64 or any number of
// channels.
template <class Do>
inline int64_t dispatch(const Plan& plan, Do run) {
  switch (plan.type) {
    case ElementType::kFloat:
      return plan.packed ? run.template channels<float, float, float, true>()
                         : run.template channels<float, float, float, false>();
    case ElementType::kBFloat16:
      return plan.packed ? run.template channels<BFloat16, float, float, true>()
                         : run.template channels<BFloat16, BFloat16, float, false>();
    case ElementType::kHalf:
      return plan.packed ? run.template channels<Half, float, float, true>()
                         : run.template channels<Half, Half, float, false>();
    case ElementType::kDouble:
      return run.template any<double, double, double, false>();
  }
  return 0;
}

struct RunForward {
  const Plan& plan;
  int64_t begin, end;
  char* scratch;
  template <class T, class E, class A, bool kPacked>
  int64_t any() {
    return forward_tasks<T, E, A, kPacked, 0>(plan, begin, end, scratch);
  }
  template <class T, class E, class A, bool kPacked>
  int64_t channels() {
    switch (plan.D) {
      case 8: return forward_tasks<T, E, A, kPacked, 8>(plan, begin, end, scratch);
      case 16: return forward_tasks<T, E, A, kPacked, 16>(plan, begin, end, scratch);
      case 32: return forward_tasks<T, E, A, kPacked, 32>(plan, begin, end, scratch);
      case 64: return forward_tasks<T, E, A, kPacked, 64>(plan, begin, end, scratch);
      default: return any<T, E, A, kPacked>();
    }
  }
};

struct RunBackward {
  const Plan& plan;
  int64_t begin, end;
  char* scratch;
  template <class T, class E, class A, bool kPacked>
  int64_t any() {
    return backward_tasks<T, E, A, kPacked, 0>(plan, begin, end, scratch);
  }
  template <class T, class E, class A, bool kPacked>
  int64_t channels() {
    switch (plan.D) {
      case 8: return backward_tasks<T, E, A, kPacked, 8>(plan, begin, end, scratch);
      case 16: return backward_tasks<T, E, A, kPacked, 16>(plan, begin, end, scratch);
      case 32: return backward_tasks<T, E, A, kPacked, 32>(plan, begin, end, scratch);
      case 64: return backward_tasks<T, E, A, kPacked, 64>(plan, begin, end, scratch);
      default: return any<T, E, A, kPacked>();
    }
  }
};

size_t forward_scratch(const Plan& plan) {
  return static_cast<size_t>(dispatch(plan, RunForward{plan, 0, 0, nullptr}));
}
void forward(const Plan& plan, int64_t begin, int64_t end, char* scratch) {
  dispatch(plan, RunForward{plan, begin, end, scratch});
}
size_t backward_scratch(const Plan& plan) {
  return static_cast<size_t>(dispatch(plan, RunBackward{plan, 0, 0, nullptr}));
}
void backward(const Plan& plan, int64_t begin, int64_t end, char* scratch) {
  dispatch(plan, RunBackward{plan, begin, end, scratch});
}
