// Places and weights of samples, compiled for AVX2.
#include "plan.h"

namespace partglee {
namespace sampling {
namespace {
#include "../exponential.h"

#include "rows.h"
}  // namespace

const Kernels kAvx2Kernels = {"avx2", scratch, run};

}  // namespace sampling
}  // namespace partglee
