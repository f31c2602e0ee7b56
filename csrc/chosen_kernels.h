// The kernels of the instruction set that this process uses.
//
// Included by the entry point of an operator, inside a namespace with its `Kernels` and one of them for each set.

inline const Kernels& kernels() {
#if defined(PARTGLEE_X86)
  const char* name = partglee_cpu_instruction_set();
  if (!std::strcmp(name, "avx512")) return kAvx512Kernels;
  if (!std::strcmp(name, "avx2")) return kAvx2Kernels;
#endif
  return kBaselineKernels;
}
