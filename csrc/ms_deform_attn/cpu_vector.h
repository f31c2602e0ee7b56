// Vectors of the width of one instruction set, and loads and stores of each element type.
//
// Included by one file per instruction set, inside that file's own namespace: nothing here may have linkage, or the
// linker could keep an AVX-512 copy of a function that a processor without it then calls. Hence no standard
// containers and no standard algorithms either.

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

// Lanes of float in a register of this instruction set.
#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

template <class T, int W>
struct VectorOf {
  typedef T type __attribute__((vector_size(W * sizeof(T))));
  // The same in memory: no alignment, and it may alias anything.
  typedef T loose __attribute__((vector_size(W * sizeof(T)), aligned(alignof(T)), may_alias));
};
template <class T, int W>
using Vec = typename VectorOf<T, W>::type;

template <class To, class From>
inline To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  __builtin_memcpy(&to, &from, sizeof(To));
  return to;
}

// ---- one element ----

inline float widen(float x) { return x; }
inline double widen(double x) { return x; }
inline float widen(BFloat16 x) { return bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }
inline float widen(Half x) {
  const uint32_t magnitude = x.bits & 0x7fffu;
  // Shift exponent and mantissa into place and correct the bias by a multiplication: right for subnormals too.
  uint32_t bits = bit_cast<uint32_t>(bit_cast<float>(magnitude << 13) * 0x1p112f);
  if (magnitude >= 0x7c00u) bits |= 0x7f800000u;
  return bit_cast<float>(bits | (static_cast<uint32_t>(x.bits & 0x8000u) << 16));
}

// Round to nearest even; NaN stays NaN.
inline void narrow(float x, float* to) { *to = x; }
inline void narrow(double x, double* to) { *to = x; }
inline void narrow(float x, BFloat16* to) {
  const uint32_t bits = bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  to->bits = static_cast<uint16_t>(x != x ? 0x7fc0u : rounded);
}
inline void narrow(float x, Half* to) {
  const uint32_t bits = bit_cast<uint32_t>(x);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t result;
  if (magnitude > 0x7f800000u) {
    result = 0x7e00u;  // NaN
  } else if (magnitude >= 0x477ff000u) {
    result = 0x7c00u;  // rounds beyond the largest half
  } else if (magnitude < 0x38800000u) {
    // Subnormal: adding 0.5 leaves exactly the bits that count, rounded by the addition itself.
    result = bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    result = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  }
  to->bits = static_cast<uint16_t>(sign | result);
}

// ---- W elements ----

template <int W>
inline Vec<float, W> load(const float* from) {
  return *reinterpret_cast<const typename VectorOf<float, W>::loose*>(from);
}
template <int W>
inline Vec<float, W> load(const BFloat16* from) {
  // gcc 12 makes five instructions of the portable line below where two do.
#if defined(__AVX512F__)
  if constexpr (W == 16) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return bit_cast<Vec<float, W>>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
#endif
#if defined(__AVX2__)
  if constexpr (W == 8) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return bit_cast<Vec<float, W>>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
#endif
  const Vec<uint16_t, W> bits = *reinterpret_cast<const typename VectorOf<uint16_t, W>::loose*>(from);
  return bit_cast<Vec<float, W>>(__builtin_convertvector(bits, Vec<uint32_t, W>) << 16);
}
template <int W>
inline Vec<float, W> load(const Half* from) {
#if defined(__AVX512F__)
  if constexpr (W == 16) {
    return bit_cast<Vec<float, W>>(
        _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
  }
#endif
#if defined(__F16C__)
  if constexpr (W == 8) {
    return bit_cast<Vec<float, W>>(
        _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  }
#endif
  Vec<float, W> to;
  for (int i = 0; i < W; ++i) to[i] = widen(from[i]);
  return to;
}

template <int W>
inline void store(Vec<float, W> x, float* to) {
  *reinterpret_cast<typename VectorOf<float, W>::loose*>(to) = x;
}

// Copy `count` elements from one type to another.
template <class From, class To>
inline void convert(const From* from, To* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) narrow(widen(from[i]), to + i);
}
inline void convert(const float* from, float* to, int64_t count) {
  __builtin_memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
}
inline void convert(const BFloat16* from, BFloat16* to, int64_t count) {
  __builtin_memcpy(to, from, static_cast<size_t>(count) * sizeof(BFloat16));
}

#if defined(__F16C__)
inline void convert(const float* from, Half* to, int64_t count) {
  const int64_t whole = count / 8 * 8;
  for (int64_t i = 0; i < whole; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
  }
  for (int64_t i = whole; i < count; ++i) narrow(from[i], to + i);
}
inline void convert(const Half* from, float* to, int64_t count) {
  const int64_t whole = count / 8 * 8;
  for (int64_t i = 0; i < whole; i += 8) {
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
  }
  for (int64_t i = whole; i < count; ++i) to[i] = widen(from[i]);
}
#endif

// ---- the sums of four vectors ----

template <int W>
inline void sum_each(Vec<float, W> a, Vec<float, W> b, Vec<float, W> c, Vec<float, W> d, float* to) {
#if defined(__AVX512F__)
  if constexpr (W == 16) {
    const __m512 va = bit_cast<__m512>(a), vb = bit_cast<__m512>(b);
    const __m512 vc = bit_cast<__m512>(c), vd = bit_cast<__m512>(d);
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(va, vb), _mm512_unpackhi_ps(va, vb));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(vc, vd), _mm512_unpackhi_ps(vc, vd));
    // Each 128-bit part now ends as (a, b, c, d) of its own four lanes.
    const __m512 all =
        _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 half =
        _mm256_add_ps(_mm512_castps512_ps256(all),
                      _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(all), 1)));
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
    return;
  }
#endif
#if defined(__AVX2__)
  if constexpr (W == 8) {
    const __m256 ab = _mm256_hadd_ps(bit_cast<__m256>(a), bit_cast<__m256>(b));
    const __m256 cd = _mm256_hadd_ps(bit_cast<__m256>(c), bit_cast<__m256>(d));
    const __m256 all = _mm256_hadd_ps(ab, cd);
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
    return;
  }
#endif
#if defined(__SSE2__)
  if constexpr (W == 4) {
    const __m128 va = bit_cast<__m128>(a), vb = bit_cast<__m128>(b);
    const __m128 vc = bit_cast<__m128>(c), vd = bit_cast<__m128>(d);
    const __m128 ab = _mm_add_ps(_mm_unpacklo_ps(va, vb), _mm_unpackhi_ps(va, vb));
    const __m128 cd = _mm_add_ps(_mm_unpacklo_ps(vc, vd), _mm_unpackhi_ps(vc, vd));
    _mm_storeu_ps(to, _mm_add_ps(_mm_shuffle_ps(ab, cd, 0x44), _mm_shuffle_ps(ab, cd, 0xee)));
    return;
  }
#endif
  float sums[4] = {0, 0, 0, 0};
  for (int i = 0; i < W; ++i) {
    sums[0] += a[i];
    sums[1] += b[i];
    sums[2] += c[i];
    sums[3] += d[i];
  }
  __builtin_memcpy(to, sums, sizeof(sums));
}

// ---- stores past the caches ----

// `bytes` is a multiple of 64, and both places are aligned to 64.
template <int kBytes>
inline void stream(const void* from, void* to) {
#if defined(__AVX512F__)
  for (int i = 0; i < kBytes / 64; ++i) {
    _mm512_stream_si512(static_cast<__m512i*>(to) + i, _mm512_load_si512(static_cast<const __m512i*>(from) + i));
  }
#elif defined(__AVX2__)
  for (int i = 0; i < kBytes / 32; ++i) {
    _mm256_stream_si256(static_cast<__m256i*>(to) + i, _mm256_load_si256(static_cast<const __m256i*>(from) + i));
  }
#elif defined(__SSE2__)
  for (int i = 0; i < kBytes / 16; ++i) {
    _mm_stream_si128(static_cast<__m128i*>(to) + i, _mm_load_si128(static_cast<const __m128i*>(from) + i));
  }
#else
  __builtin_memcpy(to, from, kBytes);
#endif
}

// Such stores are not ordered with others; this makes them so.
inline void finish_streams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}
