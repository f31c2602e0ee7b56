// The name under which PyTorch knows the operators. A process may hold two packages built from these files, and PyTorch
// takes each name from one library alone.
#pragma once

#include <torch/csrc/stable/library.h>

#if !defined(PARTGLEE_NAMESPACE)
#define PARTGLEE_NAMESPACE partglee
#endif

// PyTorch's macro pastes its argument as it stands; one step between, and PARTGLEE_NAMESPACE is its meaning by then.
#define PARTGLEE_LIBRARY(name, m) STABLE_TORCH_LIBRARY(name, m)
