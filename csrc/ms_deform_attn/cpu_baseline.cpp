// The CPU kernels compiled for any processor of the architecture (SSE2 on x86-64, NEON on Arm).
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "cpu_plan.h"

namespace partglee {
namespace {
#include "cpu_vector.h"

#include "cpu_points.h"
#include "cpu_rows.h"
#include "cpu_tasks.h"
}  // namespace

const Kernels kBaselineKernels = {"baseline", forward_scratch, forward, backward_scratch, backward};

}  // namespace partglee
