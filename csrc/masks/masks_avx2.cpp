// Enlarged masks, compiled for AVX2 and FMA.
#include "plan.h"

namespace partglee {
namespace masks {
namespace {
#include "../exponential.h"

#include "rows.h"
}  // namespace

const Kernels kAvx2Kernels = {"avx2", scratch, run};

}  // namespace masks
}  // namespace partglee
