"""The compiled operator and PyTorch's machinery: opcheck, compile, export, ONNX, second derivatives, the cache."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from msda_inputs import MODES, Inputs, make_inputs, needs_native, relative_error
from torch import Tensor, nn

from partglee.layers.ms_deform_attn import MSDeformAttn
from partglee.ops import level_shapes, missing, ms_deform_attn, native, status, use_ops

every_mode = pytest.mark.parametrize("mode", MODES)


class Layer(nn.Module):
    """The attention with a residual and a feed-forward part, as an encoder layer has them."""

    def __init__(self, shapes: list[tuple[int, int]]) -> None:
        super().__init__()
        self.shapes = shapes
        self.attention = MSDeformAttn(embed_dim=16, num_heads=2, num_levels=len(shapes), num_points=2)
        self.norm = nn.LayerNorm(16)
        self.ffn = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))

    def forward(self, query: Tensor, reference: Tensor, memory: Tensor) -> Tensor:
        query = self.norm(query + self.attention(query, reference, memory, self.shapes))
        return query + self.ffn(query)


def layer_inputs(queries: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (2, queries, 16)
    return (
        torch.randn(shape, generator=generator),
        torch.rand(2, queries, 1, 2, generator=generator),
        torch.randn(2, 43, 16, generator=generator),
    )


@pytest.fixture
def layer() -> Layer:
    torch.manual_seed(0)
    return Layer([(6, 5), (3, 4), (1, 1)])


@needs_native
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype: torch.dtype) -> None:
    inputs = make_inputs(dtype=dtype)
    leaves = tuple(t.requires_grad_() if t.is_floating_point() else t for t in inputs)
    torch.library.opcheck(torch.ops.partglee.ms_deform_attn.default, leaves)
    grad = torch.randn(2, 7, 12, dtype=dtype)
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.partglee.ms_deform_attn_backward.default, (grad, *inputs), test_utils=tests)


@needs_native
def test_double_backward_is_an_error_not_a_zero() -> None:
    inputs = make_inputs(images=1)
    value = inputs.value.requires_grad_()
    with use_ops("native"):
        out = ms_deform_attn(value, *inputs[1:])
    (grad,) = torch.autograd.grad(out.square().sum(), value, create_graph=True)
    with pytest.raises(RuntimeError, match=r"double backward is not supported.*PARTGLEE_OPS=reference"):
        grad.sum().backward()


@pytest.mark.compile
@every_mode
def test_compile_has_no_graph_break_and_follows_the_query_count(mode: str, layer: Layer) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    with use_ops(mode):
        for queries in (6, 9):
            inputs = layer_inputs(queries)
            out = compiled(*inputs)
            assert relative_error(out, layer(*inputs)) < 1e-5
            out.sum().backward()
            assert layer.attention.sampling_offsets.weight.grad is not None


@pytest.mark.compile
@needs_native
def test_compile_takes_shapes_as_a_tensor() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(ms_deform_attn, fullgraph=True, dynamic=True, backend="aot_eager")
    for queries in (5, 8):
        inputs = make_inputs(queries=queries, dtype=torch.float32)
        torch.testing.assert_close(compiled(*inputs), ms_deform_attn(*inputs))
        with use_ops("embedding_bag"):
            torch.testing.assert_close(compiled(*inputs), ms_deform_attn(*inputs))


@pytest.mark.compile
@every_mode
def test_compile_with_symbolic_image_sizes(mode: str) -> None:
    torch._dynamo.reset()

    @torch.compile(fullgraph=True, dynamic=True, backend="aot_eager")
    def call(maps: list[Tensor], locations: Tensor, weights: Tensor) -> Tensor:
        shapes = [(m.shape[1], m.shape[2]) for m in maps]
        value = torch.cat([m.flatten(1, 2) for m in maps], dim=1)
        return ms_deform_attn(value, shapes, None, locations, weights)

    with use_ops(mode):
        for sizes in ([(6, 5), (3, 4)], [(7, 8), (4, 3)]):
            inputs = make_inputs(shapes=sizes, dtype=torch.float32)
            areas = [h * w for h, w in sizes]
            maps = [part.unflatten(1, size) for part, size in zip(inputs.value.split(areas, dim=1), sizes, strict=True)]
            torch.testing.assert_close(call(maps, *inputs[3:]), ms_deform_attn(*inputs))


@pytest.mark.compile
@every_mode
def test_export_with_a_dynamic_query_count(mode: str, layer: Layer) -> None:
    queries = torch.export.Dim("queries", min=2, max=100)
    dims = ({1: queries}, {1: queries}, None)
    with use_ops(mode):
        program = torch.export.export(layer, layer_inputs(), dynamic_shapes=dims)
        inputs = layer_inputs(9)
        torch.testing.assert_close(program.module()(*inputs), layer(*inputs))


@pytest.mark.compile
def test_onnx_through_the_reference(layer: Layer, tmp_path: Path) -> None:
    """In auto mode, as users run it: also with the library present the exporter gets GridSample."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = str(tmp_path / "layer.onnx")
    queries = torch.export.Dim("queries", min=2, max=100)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            layer.eval(),
            layer_inputs(),
            dynamo=True,
            verbose=False,
            opset_version=18,
            input_names=["query", "reference", "memory"],
            dynamic_shapes=({1: queries}, {1: queries}, None),
        )
    assert program is not None
    assert "GridSample" in {node.op_type for node in program.model.graph}
    program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = layer_inputs(9)
    feed = {i.name: t.numpy() for i, t in zip(session.get_inputs(), inputs, strict=True)}
    assert relative_error(torch.from_numpy(session.run(None, feed)[0]), layer(*inputs)) < 1e-5


def test_sizes_are_copied_once() -> None:
    level_shapes.clear_cache()
    like = torch.zeros(1)
    first = level_shapes.level_tensors([(2, 3), (1, 1)], None, like)
    again = level_shapes.level_tensors([(2, 3), (1, 1)], None, like)
    assert all(a is b for a, b in zip(first, again, strict=True))
    assert first[0].tolist() == [[2, 3], [1, 1]] and first[1].tolist() == [0, 6]


def test_cache_forgets_the_oldest() -> None:
    level_shapes.clear_cache()
    like = torch.zeros(1)
    for size in range(600):
        level_shapes.level_tensors([(size, 1)], None, like)
    assert len(level_shapes._cache) <= 512


def test_cached_sizes_serve_a_backward_after_inference_mode() -> None:
    level_shapes.clear_cache()
    inputs = make_inputs(dtype=torch.float32)
    shapes = [(h, w) for h, w in inputs.shapes.tolist()]
    with torch.inference_mode():
        ms_deform_attn(inputs.value, shapes, None, *inputs[3:])
    value = inputs.value.requires_grad_()
    ms_deform_attn(value, shapes, None, *inputs[3:]).sum().backward()
    assert value.grad is not None


def test_changed_sizes_are_read_again() -> None:
    shapes = torch.tensor([[2, 3]])
    assert level_shapes.level_ints(shapes) == [(2, 3)]
    shapes[0, 0] = 5
    assert level_shapes.level_ints(shapes) == [(5, 3)]


def test_fake_tensors_do_not_enter_the_cache() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    level_shapes.clear_cache()
    with FakeTensorMode():
        level_shapes.level_tensors([(2, 3)], None, torch.zeros(1))
    pair = level_shapes.level_tensors([(2, 3)], None, torch.zeros(1))
    assert all(type(t) is Tensor for t in pair)


def test_words_for_the_mode() -> None:
    with pytest.raises(ValueError, match="auto, native, reference"), use_ops("fast"):
        pass
    code = "import partglee.ops"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**_environment(), "PARTGLEE_OPS": "fast"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode and "PARTGLEE_OPS must be one of auto, native, reference" in run.stderr


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ, PYTHONPATH=str(Path(__file__).resolve().parents[2]))


def test_native_without_the_library_names_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "CPU", native.NativeLibrary(native.LIBRARY_DIR / "libpartglee_ops.so", "not built"))
    with use_ops("native"), pytest.raises(RuntimeError, match="not built; build it with `make ops`"):
        ms_deform_attn(*make_inputs())
    assert status()["cpu path"].startswith("embedding_bag")
    ms_deform_attn(*make_inputs())  # auto goes on without it


def test_what_a_user_is_told_where_operators_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip hides it; where nothing is to be done, or the way was chosen, nothing is said."""
    monkeypatch.setattr(native, "CPU", native.NativeLibrary(Path("lib.so"), native.NOT_BUILT))
    monkeypatch.setattr(native, "CUDA", native.NativeLibrary(Path("lib.so"), native.NOT_BUILT))
    with use_ops("auto"):
        assert re.search("for cpu here.*where a C\\+\\+ compiler is.*build_ops` builds", missing("cpu"))
        assert "where nvcc is" in missing("cuda") and missing("mps") == ""
    with use_ops("reference"):
        assert missing("cpu") == ""
    with use_ops("auto"):
        for problem in ("", "does not load: it was warned of"):
            monkeypatch.setattr(native, "CPU", native.NativeLibrary(Path("lib.so"), problem))
            assert missing("cpu") == ""


def test_a_library_that_does_not_load_is_a_warning_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.so").write_bytes(b"not a library")
    monkeypatch.setattr(native, "LIBRARY_DIR", tmp_path)
    with pytest.warns(RuntimeWarning, match="does not load"):
        library = native.load_library("broken.so")
    assert not library.loaded and "does not load" in library.problem
    assert native.load_library("absent.so").problem == "not built"


def test_status_says_what_would_run() -> None:
    report: dict[str, Any] = status()
    expected = "native" if native.CPU.loaded else "embedding_bag"
    assert report["mode"] in ("auto", "native", "reference")
    if report["mode"] == "auto":
        assert report["cpu path"].startswith(expected)


def test_cuda_backward_respects_deterministic_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU only the message can be tested: the same words as PyTorch's own operators."""
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
            native._alert_not_deterministic()
        torch.use_deterministic_algorithms(True, warn_only=True)
        with pytest.warns(UserWarning, match="does not have a deterministic implementation"):
            native._alert_not_deterministic()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available() or not native.CUDA.loaded, reason="no GPU or no CUDA operators")
@pytest.mark.parametrize("channels", [32, 16, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_cuda_matches_float64(dtype: torch.dtype, channels: int) -> None:
    inputs = make_inputs(queries=60, channels=channels, points=4, dtype=dtype)
    exact = Inputs(inputs.value.double(), *inputs[1:3], inputs.locations.double(), inputs.weights.double())
    grad = torch.randn(2, 60, 3 * channels).to(dtype)

    def run(arguments: Inputs, grad: Tensor, mode: str) -> tuple[Tensor, ...]:
        leaves = [arguments.value, arguments.locations, arguments.weights]
        leaves = [leaf.detach().requires_grad_() for leaf in leaves]
        with use_ops(mode):
            out = ms_deform_attn(leaves[0], arguments.shapes, arguments.starts, leaves[1], leaves[2])
        return (out, *torch.autograd.grad(out, leaves, grad))

    found = run(Inputs(*(t.cuda() for t in inputs)), grad.cuda(), "native")
    limit = {torch.float32: 1e-4, torch.float64: 1e-10}.get(dtype, 5e-3)
    for f, e in zip(found, run(exact, grad.double(), "reference"), strict=True):
        assert relative_error(f.cpu(), e) < limit
