// The CPU kernels compiled for AVX2, FMA and F16C.
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

const Kernels kAvx2Kernels = {"avx2", forward_scratch, forward, backward_scratch, backward};

}  // namespace partglee
