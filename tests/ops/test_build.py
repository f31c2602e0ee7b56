"""The build: what it chooses, and what nvcc makes of the CUDA sources where it is found (no GPU needed)."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import partglee

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "csrc" / "ms_deform_attn"

pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").is_file(), reason="not a source checkout")


@pytest.fixture
def build() -> ModuleType:
    """csrc/build_ops.py as a module."""
    spec = importlib.util.spec_from_file_location("build_ops_of_csrc", ROOT / "csrc" / "build_ops.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME")
    found = shutil.which("nvcc", path=f"{home}/bin") if home else shutil.which("nvcc")
    return os.path.realpath(found) if found else None


def _triton_tool(name: str) -> Path | None:
    spec = importlib.util.find_spec("triton")
    if spec is None or spec.origin is None:
        return None
    tool = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / name
    return tool if tool.is_file() else None


def test_metadata_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['setup.py', '--version']; exec(open('setup.py').read())"
    )
    env = {**os.environ, "PARTGLEE_BUILD_OPS": "0"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"__file__ = 'setup.py'; {code}"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().splitlines()[-1] == partglee.__version__


def test_archs(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARTGLEE_CUDA_ARCHS", raising=False)
    flags = build.cuda_arch_flags()
    assert [f.rsplit("_", 1)[1] for f in flags] == ["80", "86", "89", "90", "100", "120", "120"]
    assert flags[-1].endswith("code=compute_120")
    monkeypatch.setenv("PARTGLEE_CUDA_ARCHS", "8.0 9.0+PTX")
    assert [f.rsplit("=", 1)[1] for f in build.cuda_arch_flags()] == ["sm_80", "sm_90", "compute_90"]
    monkeypatch.setenv("PARTGLEE_CUDA_ARCHS", "hopper")
    with pytest.raises(build.BuildProblem, match="80;90"):
        build.cuda_arch_flags()


def test_zero_builds_nothing(build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PARTGLEE_BUILD_OPS", "0")
    build.build_ops(tmp_path)
    assert not list(tmp_path.iterdir())


def test_missing_compiler_is_one_line_or_an_error(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PARTGLEE_BUILD_OPS", "auto")
    build.build_ops(tmp_path)
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "no C++ compiler found" in message
    monkeypatch.setenv("PARTGLEE_BUILD_OPS", "1")
    with pytest.raises(SystemExit, match="no C\\+\\+ compiler found"):
        build.build_ops(tmp_path)
    monkeypatch.setenv("PARTGLEE_BUILD_OPS", "yes")
    with pytest.raises(SystemExit, match="must be 0, auto, 1 or cpu"):
        build.build_ops(tmp_path)


def test_cpu_builds_the_cpu_operators_alone(build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built: list[str] = []
    monkeypatch.setattr(build, "build_cpu", lambda torch, target, package, operators=(): built.append("cpu"))
    monkeypatch.setattr(build, "build_cuda", lambda torch, target, package, operators=(): built.append("cuda"))
    monkeypatch.setattr(build, "torch_has_cuda", lambda torch: True)
    for mode, expected in (("cpu", ["cpu"]), ("1", ["cpu", "cuda"])):
        built.clear()
        monkeypatch.setenv("PARTGLEE_BUILD_OPS", mode)
        build.build_ops(tmp_path)
        assert built == expected
    monkeypatch.setenv("PARTGLEE_BUILD_OPS", "cpu")
    monkeypatch.setattr(build, "build_cpu", lambda torch, target, package, operators=(): build.compiler())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(SystemExit, match="PARTGLEE_BUILD_OPS=cpu, but: no C"):
        build.build_ops(tmp_path)


@pytest.mark.compile
@pytest.mark.skipif(_nvcc() is None, reason="nvcc not found")
@pytest.mark.parametrize("source", ["cuda.cu", "cuda_classic.cu"])
def test_cuda_sources_compile_link_and_use_wide_loads(source: str, tmp_path: Path) -> None:
    """For sm_80 and sm_90: no register spills, 16-byte loads, and on sm_90 vector reductions; a real link."""
    nvcc = _nvcc()
    assert nvcc
    torch_root = Path(torch.__file__).parent
    compiled = tmp_path / f"{source}.o"
    command = [
        nvcc, "-std=c++17", "-O3", "-DUSE_CUDA", "-DTORCH_TARGET_VERSION=0x020a000000000000ULL",
        "-isystem", f"{torch_root}/include", "-Xcompiler", "-fPIC", "-Xptxas", "-v", "--threads=2",
        "-gencode=arch=compute_80,code=sm_80", "-gencode=arch=compute_90,code=sm_90",
        "-c", "-o", str(compiled), str(SOURCES / source),
    ]  # fmt: skip
    log = subprocess.run(command, capture_output=True, text=True, check=False)
    assert log.returncode == 0, log.stderr
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log.stderr)
    assert spills and set(spills) == {("0", "0")}
    if (torch_root / "lib" / "libtorch_cuda.so").is_file():
        link = [nvcc, "-shared", "-cudart", "static", "-o", str(tmp_path / "library.so"), str(compiled)]
        link += [f"-L{torch_root}/lib", "-ltorch_cpu", "-ltorch_cuda", "-lc10"]
        linked = subprocess.run(link, capture_output=True, text=True, check=False)
        assert linked.returncode == 0, linked.stderr
    cuobjdump = _triton_tool("cuobjdump")
    if cuobjdump is None or source != "cuda.cu":
        return
    for arch in ("sm_80", "sm_90"):
        code = subprocess.run(
            [str(cuobjdump), "-sass", "-arch", arch, str(compiled)], capture_output=True, text=True, check=False
        ).stdout
        assert re.search(r"LDG\.E\.128", code), f"no 16-byte loads for {arch}"
        if arch == "sm_90":
            assert re.search(r"RED\w*\.E\.(ADD\.F32x4|\w*128|ADD\.F32X4)", code, re.IGNORECASE), "no vector reductions"


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ not found")
def test_geometry_shared_with_cuda(tmp_path: Path) -> None:
    """The arithmetic of one point as the CUDA kernels have it, compiled for the host, against plain Python."""
    program = tmp_path / "place.cpp"
    program.write_text(
        '#include "geometry.h"\n#include <cstdio>\nint main() { float x, y; int h, w;\n'
        'while (scanf("%f %f %d %d", &x, &y, &h, &w) == 4) {\n'
        "  auto p = partglee::place(x, y, h, w);\n"
        '  printf("%d %d %d %.9g %.9g\\n", p.inside, p.column, p.line, p.right, p.bottom); } }\n'
    )
    binary = tmp_path / "place"
    subprocess.run(["g++", "-std=c++17", "-I", str(SOURCES), "-o", str(binary), str(program)], check=True)
    points = [(0.5, 0.5, 4, 6), (0.0, 0.0, 4, 6), (-0.2, 0.5, 4, 6), (1.04, 0.99, 3, 7), (0.31, 0.77, 1, 1)]
    wild = ["nan 0.5 4 6", "0.5 inf 4 6", "-inf 0.5 4 6", "1e38 0.5 4 6", "0.5 -1e38 4 6"]
    text = "\n".join([" ".join(map(str, point)) for point in points] + wild)
    lines = subprocess.run([str(binary)], input=text, capture_output=True, text=True, check=True).stdout.splitlines()
    for (x, y, h, w), line in zip(points, lines, strict=False):
        inside, column, row, right, bottom = (float(word) for word in line.split())
        px, py = x * w - 0.5, y * h - 0.5
        assert bool(inside) == (-1 < px < w and -1 < py < h)
        if inside:
            assert abs(column + right - px) < 1e-5 and abs(row + bottom - py) < 1e-5
            assert 0 <= right < 1 and 0 <= bottom < 1
    assert [line.split()[0] for line in lines[len(points) :]] == ["0"] * len(wild)
