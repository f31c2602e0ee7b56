"""The build of the compiled operators, for the setup.py of every package that has them (partglee, projects/msda).

``PARTGLEE_BUILD_OPS``: ``auto`` (default) builds what the machine can and says in one line what is missing,
``1`` makes that an error, ``cpu`` builds the CPU operators alone or fails, ``0`` builds nothing.
``PARTGLEE_CUDA_ARCHS`` ("80;90") chooses the GPUs, ``CUDA_HOME`` the toolkit, ``CXX`` the C++ compiler. torch is never
imported here: only its headers are read, and only when something is compiled.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Command

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70.1, where pip brings the wheel package
    try:
        from wheel.bdist_wheel import bdist_wheel
    except ImportError:  # `python setup.py build_ops` in a bare environment makes no wheel
        bdist_wheel = Command

ROOT = Path(__file__).absolute().parent.parent  # of the package that builds: links stay, projects/msda has this by one
SOURCES = ROOT / "csrc"
CPU_LIBRARY = "libpartglee_ops.so"
CUDA_LIBRARY = "libpartglee_ops_cuda.so"
DEFAULT_CUDA_ARCHS = ("80", "86", "89", "90", "100", "120")

# The oldest PyTorch whose stable ABI the libraries use: 2.10.
COMMON_FLAGS = ["-std=c++17", "-O3", "-DTORCH_TARGET_VERSION=0x020a000000000000ULL"]
HOST_FLAGS = ["-fPIC", "-fvisibility=hidden"]
# Flags per file: one library, several instruction sets, chosen at run time. Never -march=native.
X86_FLAGS = {
    "avx2": ["-mavx2", "-mfma", "-mf16c", "-mbmi2"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c", "-mbmi2"],
}
# Folders of sources: the file of each instruction set (none: "") and the entry point. The first has the signatures.
OPERATORS = {
    "ms_deform_attn": ("ms_deform_attn/cpu_{}.cpp", "ms_deform_attn/cpu.cpp"),
    "masks": ("masks/masks_{}.cpp", "masks/masks.cpp"),
    "sampling": ("sampling/sampling_{}.cpp", "sampling/sampling.cpp"),
    "run_lengths": ("", "run_lengths/run_lengths.cpp"),
}


class BuildProblem(Exception):
    """Something the build needs is missing or failed; the text says what and what to do."""


def torch_dir() -> Path:
    """The folder of the installed torch, found without importing it.

    pip builds in an isolated environment, where the packages of the environment it installs into are not importable;
    they are still where sysconfig says.
    """
    spec = importlib.util.find_spec("torch")
    if spec is not None and spec.origin:
        return Path(spec.origin).parent
    for key in ("platlib", "purelib"):
        found = Path(sysconfig.get_paths()[key]) / "torch"
        if (found / "include").is_dir():
            return found
    raise BuildProblem("torch is not installed; install it first, then run `make ops`")


def torch_has_cuda(torch: Path) -> bool:
    text = (torch / "version.py").read_text(encoding="utf-8")
    return re.search(r"^cuda\b[^=]*=\s*['\"]", text, re.MULTILINE) is not None


def compiler() -> str:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise BuildProblem("no C++ compiler found; install g++ or clang++, or set CXX")


def nvcc() -> str:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    found = shutil.which("nvcc", path=str(Path(home) / "bin")) if home else shutil.which("nvcc")
    if not found and not home and Path("/usr/local/cuda/bin/nvcc").is_file():
        found = "/usr/local/cuda/bin/nvcc"
    if not found:
        raise BuildProblem("nvcc not found, so no CUDA operators; set CUDA_HOME")
    return os.path.realpath(found)  # a link in /usr/local/bin would hide the toolkit's folder


def cuda_arch_flags() -> list[str]:
    """Machine code for each architecture, and PTX of the newest for those that come later."""
    text = os.environ.get("PARTGLEE_CUDA_ARCHS", "")
    words = [word for word in re.split(r"[;, ]+", text) if word] or list(DEFAULT_CUDA_ARCHS)
    archs = []
    for word in words:
        found = re.fullmatch(r"(?:sm_|compute_)?(\d+)\.?(\d)([a-z]?)(?:\+PTX)?", word)
        if not found:
            raise BuildProblem(f"PARTGLEE_CUDA_ARCHS must look like '80;90' or '8.0 9.0', got {word!r}")
        archs.append("".join(found.groups()))
    flags = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs]
    newest = max(archs, key=lambda arch: int(re.sub(r"\D", "", arch)))
    return [*flags, f"-gencode=arch=compute_{newest},code=compute_{newest}"]


def run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        log = (result.stderr or result.stdout).strip()
        raise BuildProblem(f"{Path(command[0]).name} failed for {command[-1]}:\n{log}")


def compile_all(commands: list[list[str]]) -> None:
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(run, commands))


def replace(source: Path, target: Path) -> None:
    """Put a new library in place without touching the file that a running process has mapped."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copy2(source, beside)
    beside.replace(target)


def build_cpu(torch: Path, target: Path, package: str, operators: Iterable[str]) -> None:
    cxx = compiler()
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    flags = [*COMMON_FLAGS, *HOST_FLAGS, "-fno-math-errno", "-fno-trapping-math"]
    flags += ["-DPARTGLEE_X86"] if is_x86 else []
    flags += [f"-DPARTGLEE_NAMESPACE={package}"]
    include = ["-isystem", f"{torch}/include"]
    sets = ["baseline", *(X86_FLAGS if is_x86 else ())]
    chosen = [OPERATORS[operator] for operator in operators]
    files = [
        (kernel.format(name), X86_FLAGS.get(name, [])) for kernel, _ in chosen if kernel for name in sets
    ]  # the slowest first
    files += [(entry, []) for _, entry in chosen]
    with tempfile.TemporaryDirectory() as folder:
        objects = [f"{folder}/{name.replace('/', '-')}.o" for name, _ in files]
        compile_all(
            [
                [cxx, *flags, *own, *include, "-c", "-o", out, str(SOURCES / name)]
                for (name, own), out in zip(files, objects, strict=True)
            ]
        )
        library = Path(folder) / CPU_LIBRARY
        run([cxx, "-shared", "-o", str(library), *objects, f"-L{torch}/lib", "-ltorch_cpu", "-lc10"])
        replace(library, target / CPU_LIBRARY)


def build_cuda(torch: Path, target: Path, package: str) -> None:
    tool = nvcc()
    flags = [*COMMON_FLAGS, "-DUSE_CUDA", f"-DPARTGLEE_NAMESPACE={package}", *cuda_arch_flags(), "--threads=0"]
    flags += ["-Xcompiler", ",".join(HOST_FLAGS)]
    include = ["-isystem", f"{torch}/include"]
    names = ["ms_deform_attn/cuda.cu", "ms_deform_attn/cuda_classic.cu"]
    with tempfile.TemporaryDirectory() as folder:
        objects = [f"{folder}/{Path(name).name}.o" for name in names]
        compile_all(
            [
                [tool, *flags, *include, "-c", "-o", out, str(SOURCES / name)]
                for name, out in zip(names, objects, strict=True)
            ]
        )
        library = Path(folder) / CUDA_LIBRARY
        libraries = ["-ltorch_cpu", "-ltorch_cuda", "-lc10"]
        run([tool, "-shared", "-cudart", "static", "-o", str(library), *objects, f"-L{torch}/lib", *libraries])
        replace(library, target / CUDA_LIBRARY)


def build_ops(target: Path, package: str = "partglee", operators: Iterable[str] = tuple(OPERATORS)) -> None:
    """Build what PARTGLEE_BUILD_OPS asks for into ``target``; PyTorch will know the operators as ``package``'s."""
    mode = os.environ.get("PARTGLEE_BUILD_OPS", "") or "auto"
    if mode not in ("0", "auto", "1", "cpu"):
        raise SystemExit(f"PARTGLEE_BUILD_OPS must be 0, auto, 1 or cpu, got {mode!r}")
    if mode == "0":
        return
    try:
        torch = torch_dir()
        build_cpu(torch, target, package, operators)
        print(f"{package}: built {target / CPU_LIBRARY}")
        if mode != "cpu" and torch_has_cuda(torch):
            build_cuda(torch, target, package)
            print(f"{package}: built {target / CUDA_LIBRARY}")
    except BuildProblem as problem:
        if mode in ("1", "cpu"):
            raise SystemExit(f"{package}: PARTGLEE_BUILD_OPS={mode}, but: {problem}") from None
        line = str(problem).splitlines()[0].rstrip(":")
        print(f"{package}: going on without some compiled operators: {line}", file=sys.stderr)


class BuildOps(Command):
    """``python setup.py build_ops``: compile the operators beside the package."""

    description = "build the compiled operators in place"
    package = "partglee"
    operators = tuple(OPERATORS)
    user_options: list[tuple[str, str | None, str]] = []

    def initialize_options(self) -> None:
        pass

    def finalize_options(self) -> None:
        pass

    def run(self) -> None:
        build_ops(ROOT / self.package / "_lib", self.package, self.operators)


class BdistWheel(bdist_wheel):
    """A wheel with a library inside fits one platform, but any Python 3: the library has no Python symbols."""

    package = "partglee"

    def run(self) -> None:
        self.run_command("build")
        build = self.get_finalized_command("build_py")
        self.root_is_pure = not any((Path(build.build_lib) / self.package / "_lib").glob("*.so"))
        if not self.root_is_pure:  # else setuptools files the package under .data/purelib, where no library may lie
            self.distribution.has_ext_modules = lambda: True
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        python, abi, system = super().get_tag()
        return (python, abi, system) if self.root_is_pure else ("py3", "none", system)
