// Places and weights of samples, compiled for any processor of the architecture.
#include "plan.h"

namespace partglee {
namespace sampling {
namespace {
#include "../exponential.h"

#include "rows.h"
}  // namespace

const Kernels kBaselineKernels = {"baseline", scratch, run};

}  // namespace sampling
}  // namespace partglee
