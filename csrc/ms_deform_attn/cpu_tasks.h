// The tasks of one instruction set: which part of a call a thread works on, and the choice of kernel by element type
// and number of channels. Included after cpu_rows.h, in the same namespace.
//
// Many queries: each head's rows are copied together first ("packed", sums in float). Few: rows are read in place.
// With begin == end a function only returns the scratch memory it needs.

// What a (query, head) calls is compiled for 8, 16, 32, 64 (float sums) or any number of channels; tasks are compiled
// once per element type and call it through a pointer: an eighth of the code, at 2 ns of some 100.
template <int D>
struct Channels {
  static constexpr int value = D;
};

template <class A, class Pick>
inline auto by_channels(const Plan& plan, Pick pick) {
  if constexpr (sizeof(A) == sizeof(float)) {
    switch (plan.D) {
      case 8: return pick(Channels<8>());
      case 16: return pick(Channels<16>());
      case 32: return pick(Channels<32>());
      case 64: return pick(Channels<64>());
    }
  }
  return pick(Channels<0>());
}

template <class T>
struct SumOf {
  typedef float type;
};
template <>
struct SumOf<double> {
  typedef double type;
};

// ---- forward ----

template <class T>
int64_t forward_packed(const Plan& plan, int64_t begin, int64_t end, char* scratch) {
  Arena arena{scratch, 0};
  const Points<float> points = take_points<float>(arena, plan.L * plan.P);
  float* sum = arena.take<float>(plan.D);
  float* copy = arena.take<float>(plan.padded_rows * plan.D);
  if (begin == end) return arena.used;
  __builtin_memset(copy, 0, static_cast<size_t>(plan.padded_rows * plan.D) * sizeof(float));
  const auto sum_rows_of =
      by_channels<float>(plan, [](auto d) { return &sum_rows<true, decltype(d)::value, T, float, float>; });
  int64_t packed = -1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t pair = task / plan.blocks, block = task % plan.blocks;
    const int64_t image = pair / plan.M, head = pair % plan.M;
    if (packed != pair) pack_head(plan, static_cast<const T*>(plan.value), image, head, copy);
    packed = pair;
    const int64_t last = plan.Q * (block + 1) / plan.blocks;
    for (int64_t i = plan.Q * block / plan.blocks; i < last; ++i) {
      const int64_t query = plan.order ? plan.order[i] : i;
      locate<true>(plan, query, image, head, points);
      T* out = static_cast<T*>(plan.out) + ((image * plan.Q + query) * plan.M + head) * plan.D;
      sum_rows_of(points, plan.points_f.stride, plan.L * plan.P, copy, plan.D, nullptr, plan.D, sum, out);
    }
  }
  return arena.used;
}

// All heads of a query together: locations, weights and output are then walked in memory order.
template <class T>
int64_t forward_in_place(const Plan& plan, int64_t begin, int64_t end, char* scratch) {
  using A = typename SumOf<T>::type;
  Arena arena{scratch, 0};
  const Points<A> buffers[2] = {take_points<A>(arena, plan.L * plan.P), take_points<A>(arena, plan.L * plan.P)};
  A* sum = arena.take<A>(plan.D);
  T* zeros = arena.take<T>(plan.D);
  if (begin == end) return arena.used;
  __builtin_memset(zeros, 0, static_cast<size_t>(plan.D) * sizeof(T));
  const auto sum_rows_of =
      by_channels<A>(plan, [](auto d) { return &sum_rows<false, decltype(d)::value, T, T, A>; });
  const int64_t count = plan.L * plan.P, step = plan.M * plan.D, row_bytes = plan.D * static_cast<int64_t>(sizeof(T));
  for (int64_t task = begin; task < end; ++task) {
    const int64_t image = task / plan.blocks, block = task % plan.blocks;
    const T* value = static_cast<const T*>(plan.value) + image * plan.S * plan.M * plan.D;
    // (query, head) pairs in memory order; the rows of the next one are asked for while one is summed.
    const int64_t first = plan.Q * block / plan.blocks * plan.M, last = plan.Q * (block + 1) / plan.blocks * plan.M;
    T* out = static_cast<T*>(plan.out) + image * plan.Q * plan.M * plan.D;
    for (int64_t next = first; next <= last; ++next) {
      if (next < last) {
        const Points<A>& points = buffers[next % 2];
        locate<false>(plan, next / plan.M, image, next % plan.M, points);
        prefetch_rows(points, 0, count, value + next % plan.M * plan.D, step, row_bytes);
      }
      if (next > first) {
        const int64_t done = next - 1;
        sum_rows_of(buffers[done % 2], nullptr, count, value + done % plan.M * plan.D, step, zeros, plan.D, sum,
                    out + done * plan.D);
      }
    }
  }
  return arena.used;
}

// ---- backward ----
//
// A task owns the rows of its head (and, with several blocks, of its levels) in the gradient of the value, and the
// location and weight gradients of the same points: no two threads write to one place, so no atomics, and each sum
// is taken in the order of the queries whatever the number of threads.

template <class T>
int64_t backward_packed(const Plan& plan, int64_t begin, int64_t end, char* scratch) {
  Arena arena{scratch, 0};
  const Points<float> points = take_points<float>(arena, plan.L * plan.P);
  float* grad = arena.take<float>(plan.D);
  float* copy = arena.take<float>(plan.padded_rows * plan.D);
  float* own = arena.take<float>(plan.padded_rows * plan.D);
  if (begin == end) return arena.used;
  const size_t bytes = static_cast<size_t>(plan.padded_rows * plan.D) * sizeof(float);
  __builtin_memset(copy, 0, bytes);
  const auto spread_rows_of =
      by_channels<float>(plan, [](auto d) { return &spread_rows<true, decltype(d)::value, float, float>; });
  int64_t packed = -1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t pair = task / plan.blocks, block = task % plan.blocks;
    const int64_t image = pair / plan.M, head = pair % plan.M;
    const int64_t level_begin = plan.L * block / plan.blocks, level_end = plan.L * (block + 1) / plan.blocks;
    if (packed != pair) pack_head(plan, static_cast<const T*>(plan.value), image, head, copy);
    packed = pair;
    __builtin_memset(own, 0, bytes);
    for (int64_t i = 0; i < plan.Q; ++i) {
      const int64_t query = plan.order ? plan.order[i] : i;
      locate<true>(plan, query, image, head, points);
      convert(static_cast<const T*>(plan.grad_out) + ((image * plan.Q + query) * plan.M + head) * plan.D, grad,
              plan.D);
      spread_rows_of(points, plan.points_f.stride, level_begin * plan.P, level_end * plan.P, copy, plan.D, nullptr,
                     own, plan.D, nullptr, plan.D, grad);
      finish_points(plan, query, image, head, level_begin * plan.P, level_end * plan.P, points);
    }
    unpack_head(plan, own, image, head, level_begin, level_end, static_cast<T*>(plan.grad_value));
  }
  return arena.used;
}

// Few queries touch few rows. Float and double are summed in the gradient of the value, which the caller has cleared;
// half types in compact float slots, one for each row that is touched, and then every row is written once.
template <class T>
int64_t backward_in_place(const Plan& plan, int64_t begin, int64_t end, char* scratch) {
  using A = typename SumOf<T>::type;
  Arena arena{scratch, 0};
  const Points<A> buffers[2] = {take_points<A>(arena, plan.L * plan.P), take_points<A>(arena, plan.L * plan.P)};
  A* grad = arena.take<A>(plan.D);
  A* nowhere = arena.take<A>(plan.D);
  T* zeros = arena.take<T>(plan.D);
  A* slots = arena.take<A>(kSlots<T, A> ? plan.slots * plan.D : 0);
  int32_t* slot_of_row = arena.take<int32_t>(kSlots<T, A> ? plan.S + 1 : 0);
  if (begin == end) return arena.used;
  __builtin_memset(zeros, 0, static_cast<size_t>(plan.D) * sizeof(T));
  __builtin_memset(nowhere, 0, static_cast<size_t>(plan.D) * sizeof(A));
  const int64_t step = plan.M * plan.D, row_bytes = plan.D * static_cast<int64_t>(sizeof(T));
  const auto spread_rows_of =
      by_channels<A>(plan, [](auto d) { return &spread_rows<false, decltype(d)::value, T, A>; });
  for (int64_t task = begin; task < end; ++task) {
    const int64_t pair = task / plan.blocks, block = task % plan.blocks;
    const int64_t image = pair / plan.M, head = pair % plan.M;
    const int64_t level_begin = plan.L * block / plan.blocks, level_end = plan.L * (block + 1) / plan.blocks;
    const int64_t point_begin = level_begin * plan.P, point_end = level_end * plan.P;
    const int64_t slice = (image * plan.S * plan.M + head) * plan.D;
    const T* rows = static_cast<const T*>(plan.value) + slice;
    T* grad_value = static_cast<T*>(plan.grad_value) + slice;
    // Slot 0 stays zero, slot 1 takes what falls outside and is never read; both are cleared with the first query's.
    const int32_t outside = static_cast<int32_t>(plan.S);
    int32_t clean = 0, next = 2;
    if constexpr (kSlots<T, A>) {
      __builtin_memset(slot_of_row, 0, static_cast<size_t>(plan.S) * sizeof(int32_t));
      slot_of_row[outside] = 1;
    }
    for (int64_t ahead = 0; ahead <= plan.Q; ++ahead) {
      if (ahead < plan.Q) {
        locate<false>(plan, ahead, image, head, buffers[ahead % 2]);
        prefetch_rows(buffers[ahead % 2], point_begin, point_end, rows, step, row_bytes);
        if constexpr (!kSlots<T, A>) {
          prefetch_rows(buffers[ahead % 2], point_begin, point_end, grad_value, step, row_bytes);
        }
      }
      if (ahead == 0) continue;
      const int64_t query = ahead - 1;
      const Points<A>& points = buffers[query % 2];
      convert(static_cast<const T*>(plan.grad_out) + ((image * plan.Q + query) * plan.M + head) * plan.D, grad,
              plan.D);
      if constexpr (kSlots<T, A>) {
        next = assign_slots(points, point_begin, point_end, outside, next, slot_of_row);
        __builtin_memset(slots + clean * plan.D, 0, static_cast<size_t>((next - clean) * plan.D) * sizeof(A));
        clean = next;
        spread_rows_of(points, nullptr, point_begin, point_end, rows, step, zeros, slots, plan.D, nowhere, plan.D,
                       grad);
      } else {
        spread_rows_of(points, nullptr, point_begin, point_end, rows, step, zeros, grad_value, step, nowhere, plan.D,
                       grad);
      }
      finish_points(plan, query, image, head, point_begin, point_end, points);
    }
    if constexpr (kSlots<T, A>) {
      const auto write_slots_of =
          by_channels<A>(plan, [](auto d) { return &write_slots<T, A, decltype(d)::value>; });
      for (int64_t l = level_begin; l < level_end; ++l) {
        const PaddedLevel& level = plan.levels[l];
        write_slots_of(slots, slot_of_row, level.source, level.source + level.height * level.width, step, plan.D,
                       plan.past_caches, grad_value);
      }
    }
  }
  return arena.used;
}

// ---- by element type ----

template <class Do>
inline int64_t by_type(const Plan& plan, Do run) {
  switch (plan.type) {
    case ElementType::kFloat: return run(float());
    case ElementType::kBFloat16: return run(BFloat16());
    case ElementType::kHalf: return run(Half());
    case ElementType::kDouble: return run(double());
  }
  return 0;
}

int64_t run_forward(const Plan& plan, int64_t begin, int64_t end, char* scratch) {
  return by_type(plan, [&](auto type) {
    using T = decltype(type);
    if constexpr (sizeof(T) <= sizeof(float)) {
      if (plan.packed) return forward_packed<T>(plan, begin, end, scratch);
    }
    return forward_in_place<T>(plan, begin, end, scratch);
  });
}

int64_t run_backward(const Plan& plan, int64_t begin, int64_t end, char* scratch) {
  return by_type(plan, [&](auto type) {
    using T = decltype(type);
    if constexpr (sizeof(T) <= sizeof(float)) {
      if (plan.packed) return backward_packed<T>(plan, begin, end, scratch);
    }
    return backward_in_place<T>(plan, begin, end, scratch);
  });
}

size_t forward_scratch(const Plan& plan) { return static_cast<size_t>(run_forward(plan, 0, 0, nullptr)); }
void forward(const Plan& plan, int64_t begin, int64_t end, char* scratch) { run_forward(plan, begin, end, scratch); }
size_t backward_scratch(const Plan& plan) { return static_cast<size_t>(run_backward(plan, 0, 0, nullptr)); }
void backward(const Plan& plan, int64_t begin, int64_t end, char* scratch) { run_backward(plan, begin, end, scratch); }
