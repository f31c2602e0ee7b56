// Entry points of the CPU operators: checks, the plan of a call, the choice of instruction set, threads.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "checks.h"
#include "cpu_plan.h"
#include "library.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace partglee {
namespace {

// ---- instruction sets ----

const Kernels* find_kernels(const char* name) {
#if defined(PARTGLEE_X86)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && (!name || !std::strcmp(name, "avx512"))) return &kAvx512Kernels;
  if (avx2 && (!name || !std::strcmp(name, "avx2"))) return &kAvx2Kernels;
#endif
  if (!name || !std::strcmp(name, "baseline")) return &kBaselineKernels;
  return nullptr;
}

std::atomic<const Kernels*> chosen_kernels{find_kernels(nullptr)};

// ---- memory ----

constexpr int64_t kHugePage = 2 << 20;

// A large fresh block costs more in page faults than in work (4 KB at a time); ask for large pages. Only a hint.
void advise_huge_pages(void* data, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const uintptr_t first = (reinterpret_cast<uintptr_t>(data) + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t last = (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes)) / kHugePage * kHugePage;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

struct Free {
  void operator()(char* memory) const { std::free(memory); }
};

std::unique_ptr<char, Free> scratch_memory(size_t bytes) {
  const size_t align = bytes >= static_cast<size_t>(kHugePage) ? kHugePage : 64;
  const size_t size = (std::max<size_t>(bytes, 1) + align - 1) / align * align;
  char* memory = static_cast<char*>(std::aligned_alloc(align, size));
  STD_TORCH_CHECK(memory != nullptr, "ms_deform_attn: out of memory for ", size, " bytes of scratch space");
  advise_huge_pages(memory, static_cast<int64_t>(size));
  return std::unique_ptr<char, Free>(memory);
}

int64_t bytes_of(const Tensor& tensor) { return tensor.numel() * static_cast<int64_t>(tensor.element_size()); }

Tensor empty_of(const Tensor& like, std::initializer_list<int64_t> shape) {
  Tensor result = torch::stable::new_empty(like, torch::headeronly::IntHeaderOnlyArrayRef(shape.begin(), shape.size()));
  advise_huge_pages(result.mutable_data_ptr(), bytes_of(result));
  return result;
}

void zero_fill(const Tensor& tensor) {
  char* data = static_cast<char*>(tensor.mutable_data_ptr());
  const int64_t bytes = bytes_of(tensor), piece = 1 << 20;
  torch::stable::parallel_for(0, (bytes + piece - 1) / piece, 1, [&](int64_t begin, int64_t end) {
    std::memset(data + begin * piece, 0, static_cast<size_t>(std::min(end * piece, bytes) - begin * piece));
  });
}

// ---- the plan of a call ----

// Owns what a Plan points to.
struct PlanMemory {
  Plan plan{};
  std::vector<float> floats;
  std::vector<double> doubles;
  std::vector<int32_t> ints;
  std::vector<int32_t> order;
  std::vector<PaddedLevel> levels;
};

ElementType element_type(const Tensor& value) {
  switch (value.scalar_type()) {
    case ScalarType::BFloat16: return ElementType::kBFloat16;
    case ScalarType::Half: return ElementType::kHalf;
    case ScalarType::Double: return ElementType::kDouble;
    default: return ElementType::kFloat;
  }
}

// Every row of the value must belong to exactly one level: the backward pass relies on it to write every gradient
// once, and a level that reaches past the end would read foreign memory.
void read_levels(PlanMemory& memory, const int64_t* shapes, const int64_t* starts) {
  const Plan& plan = memory.plan;
  int64_t rows = 0;
  for (int64_t l = 0; l < plan.L; ++l) {
    const int64_t h = shapes[2 * l], w = shapes[2 * l + 1];
    STD_TORCH_CHECK(h >= 0 && w >= 0 && h < INT32_MAX && w < INT32_MAX, "ms_deform_attn: spatial_shapes[", l,
                    "] = (", h, ", ", w, ") is not a size");
    STD_TORCH_CHECK(h * w <= plan.S - rows, "ms_deform_attn: the levels of spatial_shapes have more rows than value (",
                    plan.S, "); pass the (h, w) of the feature maps that were flattened into value");
    rows += h * w;
    memory.levels.push_back({starts[l], 0, h, w});
  }
  STD_TORCH_CHECK(rows == plan.S, "ms_deform_attn: the levels of spatial_shapes have ", rows, " rows, value has ",
                  plan.S, "; pass the (h, w) of the feature maps that were flattened into value");
  std::vector<std::pair<int64_t, int64_t>> spans;
  for (const PaddedLevel& level : memory.levels) {
    const int64_t area = level.height * level.width;
    if (area > 0) spans.emplace_back(level.source, level.source + area);
  }
  std::sort(spans.begin(), spans.end());
  int64_t next = 0;
  for (const auto& span : spans) {
    STD_TORCH_CHECK(span.first == next, "ms_deform_attn: level_start_index does not fit spatial_shapes: a level starts at row ",
                    span.first, " where ", next, " was expected; the levels must cover every row of value once");
    next = span.second;
  }
}

void place_padded_levels(PlanMemory& memory) {
  int64_t widest = 0;
  for (const PaddedLevel& level : memory.levels) widest = std::max(widest, level.width);
  int64_t next = widest + 3;  // zeros for points outside: four corners of any level starting at row 0
  for (PaddedLevel& level : memory.levels) {
    level.target = next + (level.width + 1) + 1;
    next += (level.height + 2) * (level.width + 1) + 1;
  }
  memory.plan.padded_rows = next;
}

template <class A>
PointTable<A> point_table(PlanMemory& memory, std::vector<A>& reals) {
  const Plan& plan = memory.plan;
  const int64_t count = plan.L * plan.P;
  reals.resize(2 * count);
  memory.ints.resize(4 * count);
  for (int64_t p = 0; p < count; ++p) {
    const PaddedLevel& level = memory.levels[p / plan.P];
    reals[p] = static_cast<A>(level.width);
    reals[count + p] = static_cast<A>(level.height);
    int32_t* ints = memory.ints.data() + p;
    ints[0] = static_cast<int32_t>(level.width);
    ints[count] = static_cast<int32_t>(level.height);
    ints[2 * count] = static_cast<int32_t>(plan.packed ? level.target : level.source);
    ints[3 * count] = static_cast<int32_t>(plan.packed ? level.width + 1 : level.width);
  }
  const int32_t* ints = memory.ints.data();
  return {reals.data(), reals.data() + count, ints, ints + count, ints + 2 * count, ints + 3 * count};
}

// Where the queries are the pixels (an encoder), take them in strips of a few columns: neighbours then read the same
// rows while those are in the first-level cache. Any order gives the same output; the backward sums follow it, so it
// must not depend on the number of threads.
constexpr int64_t kStrip = 16;

void order_as_strips(PlanMemory& memory) {
  memory.order.reserve(memory.plan.Q);
  for (const PaddedLevel& level : memory.levels) {
    for (int64_t first = 0; first < level.width; first += kStrip) {
      const int64_t last = std::min(first + kStrip, level.width);
      for (int64_t y = 0; y < level.height; ++y) {
        for (int64_t x = first; x < last; ++x) {
          memory.order.push_back(static_cast<int32_t>(level.source + y * level.width + x));
        }
      }
    }
  }
  memory.plan.order = memory.order.data();
}

// A padded copy pays when the rows are read often enough; decoders (few queries) read most of them never.
constexpr int64_t kReadsPerRow = 8;

void fill_plan(PlanMemory& memory, const Sizes& sizes, const Tensor& value, const Tensor& shapes,
               const Tensor& starts, const Tensor& locations, const Tensor& weights) {
  Plan& plan = memory.plan;
  plan.N = sizes.N, plan.S = sizes.S, plan.M = sizes.M, plan.D = sizes.D;
  plan.Q = sizes.Q, plan.L = sizes.L, plan.P = sizes.P;
  plan.type = element_type(value);
  plan.value = value.const_data_ptr();
  plan.locations = locations.const_data_ptr();
  plan.weights = weights.const_data_ptr();
  STD_TORCH_CHECK(sizes.S < INT32_MAX / 4, "ms_deform_attn: value has ", sizes.S,
                  " rows per image; the CPU kernels take fewer than 2^29");
  const Tensor host_shapes = torch::stable::contiguous(shapes), host_starts = torch::stable::contiguous(starts);
  read_levels(memory, static_cast<const int64_t*>(host_shapes.const_data_ptr()),
              static_cast<const int64_t*>(host_starts.const_data_ptr()));
  place_padded_levels(memory);
  plan.levels = memory.levels.data();
  plan.packed = plan.type != ElementType::kDouble && plan.padded_rows <= 2 * plan.S + 4096 &&
                4 * plan.Q * plan.L * plan.P >= kReadsPerRow * plan.S;
  if (plan.type == ElementType::kDouble) {
    plan.points_d = point_table(memory, memory.doubles);
  } else {
    plan.points_f = point_table(memory, memory.floats);
  }
  if (plan.packed && plan.Q == plan.S) order_as_strips(memory);
}

// Runs all tasks; `points` is their number of sampling points, which decides whether threads are worth it.
template <class Run>
void run_tasks(int64_t tasks, int64_t points, size_t scratch, const Run& run) {
  constexpr int64_t kPointsPerThread = 4096;
  const int64_t grain = std::max<int64_t>(1, tasks * kPointsPerThread / std::max<int64_t>(points, 1));
  torch::stable::parallel_for(0, tasks, grain, [&](int64_t begin, int64_t end) {
    const auto memory = scratch_memory(scratch);
    run(begin, end, memory.get());
  });
}

// A gradient of this size is in no second-level cache when it is needed next.
constexpr int64_t kPastCaches = 4 << 20;

// ---- operators ----

Tensor ms_deform_attn_cpu(const Tensor& value_, const Tensor& shapes, const Tensor& starts, const Tensor& locations_,
                          const Tensor& weights_) {
  const Sizes sizes = check_inputs(value_, shapes, starts, locations_, weights_);
  const Tensor value = torch::stable::contiguous(value_), locations = torch::stable::contiguous(locations_);
  const Tensor weights = torch::stable::contiguous(weights_);
  PlanMemory memory;
  fill_plan(memory, sizes, value, shapes, starts, locations, weights);
  Plan& plan = memory.plan;
  const Tensor out = empty_of(value, {plan.N, plan.Q, plan.M * plan.D});
  if (out.numel() == 0) return out;
  plan.out = out.mutable_data_ptr();
  plan.blocks = plan.packed ? (plan.Q + 511) / 512 : (plan.Q + 7) / 8;
  const Kernels& kernels = *chosen_kernels.load();
  run_tasks(plan.N * (plan.packed ? plan.M : 1) * plan.blocks, plan.N * plan.M * plan.Q * plan.L * plan.P,
            kernels.forward_scratch(plan),
            [&](int64_t begin, int64_t end, char* scratch) { kernels.forward(plan, begin, end, scratch); });
  return out;
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward_cpu(const Tensor& grad_out_, const Tensor& value_,
                                                               const Tensor& shapes, const Tensor& starts,
                                                               const Tensor& locations_, const Tensor& weights_) {
  const Sizes sizes = check_inputs(value_, shapes, starts, locations_, weights_);
  check_grad_output(grad_out_, value_, sizes);
  const Tensor value = torch::stable::contiguous(value_), locations = torch::stable::contiguous(locations_);
  const Tensor weights = torch::stable::contiguous(weights_), grad_out = torch::stable::contiguous(grad_out_);
  PlanMemory memory;
  fill_plan(memory, sizes, value, shapes, starts, locations, weights);
  Plan& plan = memory.plan;
  const Tensor grad_value = empty_of(value, {plan.N, plan.S, plan.M, plan.D});
  const Tensor grad_locations = empty_of(locations, {plan.N, plan.Q, plan.M, plan.L, plan.P, 2});
  const Tensor grad_weights = empty_of(weights, {plan.N, plan.Q, plan.M, plan.L, plan.P});
  const int64_t points = grad_weights.numel();
  const bool in_place = !plan.packed && (plan.type == ElementType::kFloat || plan.type == ElementType::kDouble);
  if (in_place || points == 0 || plan.D == 0) {
    zero_fill(grad_value);
    if (points == 0 || plan.D == 0) {
      zero_fill(grad_locations);
      zero_fill(grad_weights);
      return {grad_value, grad_locations, grad_weights};
    }
  }
  plan.grad_out = grad_out.const_data_ptr();
  plan.grad_value = grad_value.mutable_data_ptr();
  plan.grad_locations = grad_locations.mutable_data_ptr();
  plan.grad_weights = grad_weights.mutable_data_ptr();
  plan.blocks = torch::stable::get_num_threads() > plan.N * plan.M ? plan.L : 1;
  // One for zeros, one for corners outside, and at most one for each row and each corner of a level.
  plan.slots = 2;
  for (const PaddedLevel& level : memory.levels) {
    plan.slots += std::min(level.height * level.width, 4 * plan.Q * plan.P);
  }
  plan.past_caches = bytes_of(grad_value) >= kPastCaches;
  const Kernels& kernels = *chosen_kernels.load();
  run_tasks(plan.N * plan.M * plan.blocks, points, kernels.backward_scratch(plan),
            [&](int64_t begin, int64_t end, char* scratch) { kernels.backward(plan, begin, end, scratch); });
  return {grad_value, grad_locations, grad_weights};
}

}  // namespace
}  // namespace partglee

// The signatures are here and not in the CUDA library, which a PyTorch without CUDA could not load; fakes and
// derivatives are registered from Python.
PARTGLEE_LIBRARY(PARTGLEE_NAMESPACE, m) {
  m.def(
      "ms_deform_attn(Tensor value, Tensor spatial_shapes, Tensor level_start_index, "
      "Tensor sampling_locations, Tensor attention_weights) -> Tensor");
  m.def(
      "ms_deform_attn_backward(Tensor grad_output, Tensor value, Tensor spatial_shapes, "
      "Tensor level_start_index, Tensor sampling_locations, Tensor attention_weights) "
      "-> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(PARTGLEE_NAMESPACE, CPU, m) {
  m.impl("ms_deform_attn", TORCH_BOX(&partglee::ms_deform_attn_cpu));
  m.impl("ms_deform_attn_backward", TORCH_BOX(&partglee::ms_deform_attn_backward_cpu));
}

// For `partglee info`, tests and benchmarks, through ctypes.
extern "C" __attribute__((visibility("default"))) const char* partglee_cpu_instruction_set() {
  return partglee::chosen_kernels.load()->name;
}

// Returns 1, or 0 and changes nothing where this library or this processor lacks the instruction set.
extern "C" __attribute__((visibility("default"))) int partglee_use_cpu_instruction_set(const char* name) {
  const partglee::Kernels* kernels = partglee::find_kernels(name);
  if (kernels) partglee::chosen_kernels = kernels;
  return kernels != nullptr;
}
