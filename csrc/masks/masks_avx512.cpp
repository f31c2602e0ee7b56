// Enlarged masks, compiled for AVX-512 (F, BW, DQ, VL).
#include "plan.h"

namespace partglee {
namespace masks {
namespace {
#include "../exponential.h"

#include "rows.h"
}  // namespace

const Kernels kAvx512Kernels = {"avx512", scratch, run};

}  // namespace masks
}  // namespace partglee
