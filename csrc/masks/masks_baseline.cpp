// Enlarged masks, compiled for any processor of the architecture.
#include "plan.h"

namespace partglee {
namespace masks {
namespace {
#include "../exponential.h"

#include "rows.h"
}  // namespace

const Kernels kBaselineKernels = {"baseline", scratch, run};

}  // namespace masks
}  // namespace partglee
