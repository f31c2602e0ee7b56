// Compressed run lengths of one mask: read with every check, or once they are known to be sound. The format is told in
// partglee/basics/masks.py.
#pragma once

#include <cstdint>
#include <vector>

namespace partglee {
namespace run_lengths {

constexpr int kLongest = 8;  // characters of a number: no image needs more

// One number from `at` on, which moves behind it; `more` is left set where the text or a number of any image ends first.
inline int64_t number(const uint8_t* text, int64_t length, int64_t& at, bool& more) {
  int64_t value = 0;
  int shift = 0;
  uint8_t code;
  do {
    code = static_cast<uint8_t>(text[at++] - 48);
    value |= static_cast<int64_t>(code & 31) << shift;
    shift += 5;
    more = code & 32;
  } while (more && at < length && shift < 5 * kLongest);
  return code & 16 ? value - (static_cast<int64_t>(1) << shift) : value;
}

// Set pixels, or -1 where the text is none of the format, a run is negative, or the runs do not cover `pixels` exactly.
inline int64_t area_of(const uint8_t* text, int64_t length, int64_t pixels) {
  if (length <= 0) return -1;
  uint8_t wrong = 0;
  for (int64_t i = 0; i < length; ++i) wrong |= static_cast<uint8_t>(text[i] - 48) & 0xc0;
  if (wrong) return -1;
  int64_t at = 0, sign = 0;
  bool more = false, odd = false;  // whether the last number is of set pixels
  // Runs and sums of the two parities change places after each number. The first number is added to no other one.
  int64_t sum = number(text, length, at, more), other_sum = 0, one = 0, two = 0;
  sign |= sum;
  while (at < length && !more) {
    const uint8_t code = static_cast<uint8_t>(text[at] - 48);
    int64_t value;
    if (code < 32) {  // nearly all
      value = (code ^ 16) - 16 + two;
      ++at;
    } else {
      value = number(text, length, at, more) + two;
    }
    sign |= value;
    two = one;
    one = value;
    const int64_t next = other_sum + value;
    other_sum = sum;
    sum = next;
    odd = !odd;
  }
  if (more || sign < 0 || sum + other_sum != pixels) return -1;
  return odd ? sum : other_sum;
}

struct Mask {
  std::vector<int64_t> edges;  // begin and end of each run of set pixels, in the order of the columns
  int64_t area = 0;
};

// Of sound run lengths; of others some mask, without reading beside the text.
inline void read(const uint8_t* text, int64_t length, Mask& mask) {
  mask.edges.clear();
  mask.area = 0;
  int64_t last[2] = {0, 0};
  int64_t place = 0, position = 0;
  bool more;
  for (int64_t at = 0; at < length; ++place) {
    int64_t value = number(text, length, at, more);
    if (place > 2) value += last[place & 1];
    last[place & 1] = value;
    if ((place & 1) && value > 0) {
      mask.edges.push_back(position);
      mask.edges.push_back(position + value);
      mask.area += value;
    }
    position += value;
  }
}

// Pixels that two masks of one size share.
inline int64_t shared(const Mask& a, const Mask& b) {
  const size_t a_size = a.edges.size(), b_size = b.edges.size();
  if (!a_size || !b_size) return 0;
  const int64_t *x = a.edges.data(), *y = b.edges.data();
  if (x[a_size - 1] <= y[0] || y[b_size - 1] <= x[0]) return 0;
  int64_t total = 0;
  for (size_t i = 0, j = 0; i < a_size && j < b_size;) {
    const int64_t begin = x[i] > y[j] ? x[i] : y[j];
    const int64_t end = x[i + 1] < y[j + 1] ? x[i + 1] : y[j + 1];
    if (end > begin) total += end - begin;
    const bool first = x[i + 1] < y[j + 1];
    i += first ? 2 : 0;
    j += first ? 0 : 2;
  }
  return total;
}

}  // namespace run_lengths
}  // namespace partglee
