// Masks enlarged row by row, thresholded and summed up while a row is in the first-level cache.
//
// Included by one file per instruction set, inside that file's own namespace: nothing here may have linkage.

constexpr int kBlock = 64;  // pixels that are looked at together: those outside of a mask cost no exponential

// Input row -> columns [start, end) of an output row.
inline void widen_row(const Axis& columns, const float* __restrict from, int64_t start, int64_t end,
                      float* __restrict to) {
  const int64_t taps = columns.taps, count = columns.to;
  const int32_t* __restrict first = columns.first;
  const float* __restrict weight = columns.weight;  // of tap k and output x at k * count + x
  for (int64_t x = start; x < end; ++x) to[x] = weight[x] * from[first[x]];
  for (int64_t k = 1; k < taps; ++k) {
    weight += count;
    for (int64_t x = start; x < end; ++x) to[x] += weight[x] * from[first[x] + k];
  }
}

struct Range {
  int64_t begin, end;
};

// Outputs within `of` that reach an input of `used`; begin == end where there are none.
inline Range reached(const Axis& axis, Range used, Range of) {
  while (of.begin < of.end && axis.first[of.begin] + axis.taps <= used.begin) ++of.begin;
  while (of.begin < of.end && axis.first[of.end - 1] >= used.end) --of.end;
  return of;
}

// Shrinks the window of a mask to where it may lie: weights are never negative, so that nothing above zero comes of
// inputs that are not.
inline void shrink(const Plan& plan, const float* logits, Range* rows, Range* columns) {
  const int64_t height = plan.rows.from, width = plan.columns.from;
  Range down = {height, 0}, across = {width, 0};
  for (int64_t y = 0; y < height; ++y, logits += width) {
    int any = 0;
    for (int64_t x = 0; x < width; ++x) any |= logits[x] > 0;
    if (!any) continue;
    if (down.begin == height) down.begin = y;
    down.end = y + 1;
    int64_t left = 0, right = width;
    while (left < across.begin && !(logits[left] > 0)) ++left;
    while (right > across.end && !(logits[right - 1] > 0)) --right;
    if (left < across.begin) across.begin = left;
    if (right > across.end) across.end = right;
  }
  *rows = reached(plan.rows, down, *rows);
  *columns = reached(plan.columns, across, *columns);
}

// 1 / (1 + exp(-x)) for x > 0.
inline float probability(float x) { return 1.0f / (1.0f + exponential(-x)); }

// Sums of one mask. Probabilities are added up in as many lanes as a block has pixels, for a few rows.
struct Sums {
  double area, probability;
  float lanes[kBlock];
  bool pending;

  void clear() {
    area = probability = 0;
    for (int i = 0; i < kBlock; ++i) lanes[i] = 0;
    pending = false;
  }

  void flush() {
    if (!pending) return;
    for (int i = 0; i < kBlock; ++i) probability += static_cast<double>(lanes[i]), lanes[i] = 0;
    pending = false;
  }
};

// `count` pixels of one row of the output; a whole block where kWhole, whose loops then have a known length.
template <bool kSums, bool kWhole>
inline void finish_block(const float* const* rows, const float* weight, int64_t taps, int64_t start, int64_t length,
                         bool* inside, Sums* sums) {
  const int count = kWhole ? kBlock : static_cast<int>(length);
  float block[kBlock];
  const float* __restrict a = rows[0] + start;
  for (int i = 0; i < count; ++i) block[i] = weight[0] * a[i];
  for (int64_t k = 1; k < taps; ++k) {
    const float* __restrict b = rows[k] + start;
    const float w = weight[k];
    for (int i = 0; i < count; ++i) block[i] += w * b[i];
  }
  int above = 0;
  for (int i = 0; i < count; ++i) above += block[i] > 0;
  if (inside != nullptr) {
    unsigned char* __restrict to = reinterpret_cast<unsigned char*>(inside + start);
    for (int i = 0; i < count; ++i) to[i] = block[i] > 0;
  }
  if (!kSums || above == 0) return;
  sums->area += above;
  sums->pending = true;
  for (int i = 0; i < count; ++i) {
    const float p = probability(block[i]);
    sums->lanes[i] += block[i] > 0 ? p : 0.0f;
  }
}

template <bool kSums>
inline void finish_row(const float* const* rows, const float* weight, int64_t taps, int64_t start, int64_t end,
                       bool* inside, Sums* sums) {
  for (; start + kBlock <= end; start += kBlock) {
    finish_block<kSums, true>(rows, weight, taps, start, kBlock, inside, sums);
  }
  if (start < end) finish_block<kSums, false>(rows, weight, taps, start, end - start, inside, sums);
}

constexpr int64_t kRowsPerFlush = 16;

size_t scratch(const Plan& plan) {
  return static_cast<size_t>(plan.rows.taps) * (static_cast<size_t>(plan.columns.to) * sizeof(float) + sizeof(float*));
}

void run(const Plan& plan, int64_t begin, int64_t end, void* memory) {
  const int64_t taps = plan.rows.taps, width = plan.columns.to;
  const float** rows = static_cast<const float**>(memory);
  float* ring = reinterpret_cast<float*>(rows + taps);  // input row r, widened, lies in place r % taps
  Sums sums;
  for (int64_t mask = begin; mask < end; ++mask) {
    const float* logits = plan.logits + mask * plan.rows.from * plan.columns.from;
    sums.clear();
    Range down = {0, plan.rows.to}, across = {0, width};
    if (plan.windows) {
      const int64_t* window = plan.windows + 4 * mask;
      down = {window[0], window[1]}, across = {window[2], window[3]};
    }
    shrink(plan, logits, &down, &across);
    const int64_t top = down.begin, bottom = down.end, left = across.begin, right = across.end;
    if (plan.inside && (bottom - top < plan.rows.to || right - left < width)) {
      __builtin_memset(plan.inside + mask * plan.rows.to * width, 0, plan.rows.to * width);
    }
    int64_t next = 0;  // input row that comes into the ring next
    for (int64_t y = top; y < bottom; ++y) {
      const int64_t first = plan.rows.first[y];
      if (next < first) next = first;
      for (; next < first + taps; ++next) {
        widen_row(plan.columns, logits + next * plan.columns.from, left, right, ring + next % taps * width);
      }
      for (int64_t k = 0; k < taps; ++k) rows[k] = ring + (first + k) % taps * width;
      bool* inside = plan.inside ? plan.inside + (mask * plan.rows.to + y) * width : nullptr;
      const float* weight = plan.rows.weight + y * taps;
      if (plan.area) {
        finish_row<true>(rows, weight, taps, left, right, inside, &sums);
        if (y % kRowsPerFlush == kRowsPerFlush - 1) sums.flush();
      } else {
        finish_row<false>(rows, weight, taps, left, right, inside, &sums);
      }
    }
    sums.flush();
    if (plan.area) plan.area[mask] = sums.area, plan.sum[mask] = sums.probability;
  }
}
