// Places and weights of samples, compiled for AVX-512 (F, BW, DQ, VL).
#include "plan.h"

namespace partglee {
namespace sampling {
namespace {
#include "../exponential.h"

#include "rows.h"
}  // namespace

const Kernels kAvx512Kernels = {"avx512", scratch, run};

}  // namespace sampling
}  // namespace partglee
