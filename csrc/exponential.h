// The exponential function in the lanes of a vector loop.
//
// Included by one file per instruction set, inside that file's own namespace: nothing here may have linkage.

// exp(x) for x <= 0, to 2e-7: 2^n p(r), p a Taylor polynomial on half a binary step. 0 below -87; NaN stays NaN.
inline float exponential(float x) {
  const float y = x < -87.0f ? -87.0f : x;
  const float magic = 12582912.0f;  // 1.5 * 2^23: what is added to it loses its fraction
  const float n = (y * 1.44269504f + magic) - magic;
  const float r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float scale;
  __builtin_memcpy(&scale, &bits, sizeof(scale));
  return x < -87.0f ? 0.0f : p * scale;
}
