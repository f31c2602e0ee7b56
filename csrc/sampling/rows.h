// Places and weights of samples, query by query.
//
// Included by one file per instruction set, inside that file's own namespace: nothing here may have linkage.

constexpr int kRows = 16;  // softmax rows that are worked on side by side, so that no sum goes across a register

inline int64_t per_head(const Plan& plan) { return plan.levels * plan.points; }

inline size_t scratch(const Plan& plan) { return sizeof(float) * static_cast<size_t>(per_head(plan)) * (4 + 2 * kRows); }

// `count` rows of `width` (at most kRows) -> their columns, side by side; what lies behind the last row is 0.
inline void to_columns(const float* __restrict from, int64_t width, int64_t count, float* __restrict columns) {
  for (int64_t k = 0; k < width; ++k) {
    for (int64_t r = 0; r < count; ++r) columns[k * kRows + r] = from[r * width + k];
    for (int64_t r = count; r < kRows; ++r) columns[k * kRows + r] = 0;
  }
}

inline void to_rows(const float* __restrict columns, int64_t width, int64_t count, float* __restrict to) {
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t k = 0; k < width; ++k) to[r * width + k] = columns[k * kRows + r];
  }
}

// Softmax along each of kRows rows.
inline void softmax(float* __restrict columns, int64_t width) {
  float highest[kRows], sum[kRows];
  for (int r = 0; r < kRows; ++r) highest[r] = columns[r];
  for (int64_t k = 1; k < width; ++k) {
    const float* __restrict x = columns + k * kRows;
    for (int r = 0; r < kRows; ++r) highest[r] = x[r] > highest[r] ? x[r] : highest[r];
  }
  for (int r = 0; r < kRows; ++r) sum[r] = 0;
  for (int64_t k = 0; k < width; ++k) {
    float* __restrict x = columns + k * kRows;
    for (int r = 0; r < kRows; ++r) {
      x[r] = exponential(x[r] - highest[r]);
      sum[r] += x[r];
    }
  }
  for (int r = 0; r < kRows; ++r) sum[r] = 1 / sum[r];
  for (int64_t k = 0; k < width; ++k) {
    float* __restrict x = columns + k * kRows;
    for (int r = 0; r < kRows; ++r) x[r] *= sum[r];
  }
}

// d logits = weight * (d weight - sum over the row of weight * d weight). Overwrites `gradient`.
inline void softmax_backward(float* __restrict gradient, const float* __restrict attention, int64_t width) {
  float sum[kRows];
  for (int r = 0; r < kRows; ++r) sum[r] = 0;
  for (int64_t k = 0; k < width; ++k) {
    for (int r = 0; r < kRows; ++r) sum[r] += gradient[k * kRows + r] * attention[k * kRows + r];
  }
  for (int64_t k = 0; k < width; ++k) {
    for (int r = 0; r < kRows; ++r) {
      gradient[k * kRows + r] = attention[k * kRows + r] * (gradient[k * kRows + r] - sum[r]);
    }
  }
}

// What the offsets of each head are added to (nothing for the derivative) and multiplied by (boxes) or divided by
// (points): (L, P, 2) each.
inline void row_of(const Plan& plan, int64_t row, bool derivative, float* __restrict centre, float* __restrict scale) {
  const float half = 0.5f / static_cast<float>(plan.points);
  for (int64_t level = 0; level < plan.levels; ++level) {
    const float* at = plan.reference + (row * plan.shared + (plan.shared > 1 ? level : 0)) * plan.coordinates;
    const float* by = plan.size + 2 * level;
    for (int64_t point = 0; point < plan.points; ++point) {
      for (int64_t axis = 0; axis < 2; ++axis) {
        const int64_t i = (level * plan.points + point) * 2 + axis;
        centre[i] = derivative ? 0.0f : at[axis];
        scale[i] = plan.coordinates == 4 ? at[2 + axis] * half : by[axis];
      }
    }
  }
}

// Offsets -> locations; with `derivative` gradients of locations -> of offsets.
inline void move(const Plan& plan, int64_t begin, int64_t end, bool derivative, float* __restrict centre) {
  const int64_t places = 2 * per_head(plan), per_row = plan.heads * places;
  float* __restrict scale = centre + places;
  for (int64_t row = begin; row < end; ++row) {
    row_of(plan, row, derivative, centre, scale);
    for (int64_t head = 0; head < plan.heads; ++head) {
      const float* __restrict from = plan.offsets + row * per_row + head * places;
      float* __restrict to = plan.locations + row * per_row + head * places;
      if (plan.coordinates == 4) {
        for (int64_t i = 0; i < places; ++i) to[i] = centre[i] + from[i] * scale[i];
      } else {
        for (int64_t i = 0; i < places; ++i) to[i] = centre[i] + from[i] / scale[i];
      }
    }
  }
}

// Logits -> weights; with `attention`, which weights were, gradients of weights -> of logits.
inline void weigh(const Plan& plan, const float* attention, int64_t begin, int64_t end, float* __restrict columns) {
  const int64_t width = per_head(plan), last = end * plan.heads;
  float* __restrict beside = columns + width * kRows;
  for (int64_t at = begin * plan.heads; at < last; at += kRows) {
    const int64_t count = last - at < kRows ? last - at : kRows;
    to_columns(plan.logits + at * width, width, count, columns);
    if (attention) {
      to_columns(attention + at * width, width, count, beside);
      softmax_backward(columns, beside, width);
    } else {
      softmax(columns, width);
    }
    to_rows(columns, width, count, plan.weights + at * width);
  }
}

inline void run(const Plan& plan, const float* attention, int64_t begin, int64_t end, void* memory) {
  float* floats = static_cast<float*>(memory);
  move(plan, begin, end, attention != nullptr, floats);
  weigh(plan, attention, begin, end, floats + 4 * per_head(plan));
}
