"""Attempts on images, label images, vocabularies, configurations, weights and name tables."""

from __future__ import annotations

import functools
import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save

from partglee.checkpoint import read_weights
from partglee.checkpoint.convert import check_fit, convert_state_dict
from partglee.config import load_config
from partglee.config.values import check_values
from partglee.data.images import image_size, read_image
from partglee.data.segmentation import read_label_map
from partglee.structures import Vocabulary
from partglee.structures.vocabulary_files import builtin_file
from partglee.text.table import read_table

# -- images


def _pixels(mode: str) -> Image.Image:
    ramp = np.arange(24 * 40, dtype=np.uint32).reshape(24, 40)
    if mode == "I;16":
        return Image.fromarray((ramp * 60).astype(np.uint16))
    return Image.fromarray(np.stack([ramp % 251, ramp // 5, ramp % 37], 2).astype(np.uint8)).convert(mode)


def _saved(mode: str, kind: str, **options: Any) -> tuple[str, bytes]:
    stream = io.BytesIO()
    _pixels(mode).save(stream, format=kind, **options)
    return {"JPEG": ".jpg", "JPEG2000": ".jp2"}.get(kind, f".{kind.lower()}"), stream.getvalue()


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _saved("RGB", "JPEG", exif=exif)[1]


IMAGES: list[bytes] = [
    *(_saved(mode, "PNG")[1] for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "I;16")),
    *(_saved(mode, "JPEG")[1] for mode in ("L", "RGB", "CMYK")), _saved("RGB", "JPEG", progressive=True)[1], _turned(),
    *(_saved("RGB", kind)[1] for kind in ("BMP", "GIF", "TIFF", "WEBP", "JPEG2000", "PPM")),
    _saved("RGB", "TIFF", compression="tiff_lzw")[1], _saved("RGBA", "WEBP", lossless=True)[1],
]  # fmt: skip
if "AVIF" in Image.SAVE or (Image.init() and "AVIF" in Image.SAVE):
    IMAGES.append(_saved("RGB", "AVIF")[1])
LABELS: list[bytes] = [_saved(mode, "PNG")[1] for mode in ("1", "L", "P", "I;16")]


def image(content: bytes, folder: Path) -> None:
    """(h, w, 3) of the size that the header says; a PNG with a wrong checksum is no answer."""
    file = folder / "image"
    file.write_bytes(content)
    pixels = read_image(file)
    assert pixels.dtype == np.uint8 and pixels.shape == (*image_size(file), 3), (pixels.shape, image_size(file))
    smaller = read_image(file, at_least=(6, 6))
    assert smaller.ndim == 3 and min(smaller.shape[:2]) >= min(6, *pixels.shape[:2])
    _check_png(content, file)


def label_image(content: bytes, folder: Path) -> None:
    """Labels as the file has them."""
    file = folder / "labels.png"
    file.write_bytes(content)
    labels = read_label_map(file)
    assert labels.dtype == np.int64 and labels.ndim == 2
    _check_png(content, file)


def _check_png(content: bytes, file: Path) -> None:
    """Checksums of what a PNG's pixels are made of, read here from the bytes."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return
    at = 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        kind = content[at + 4 : at + 8]
        if kind == b"IEND":
            return
        body, crc = content[at + 4 : at + 8 + length], content[at + 8 + length : at + 12 + length]
        if kind in (b"IHDR", b"PLTE", b"IDAT"):
            assert len(crc) == 4 and zlib.crc32(body) == struct.unpack(">I", crc)[0], f"{kind!r} is damaged: answered"
        at += 12 + length


# -- text

VOCABULARIES: list[Any] = [
    {"car": ["wheel", "door"], "person": [], "dog": ["head"]},
    ["car", "dog", "person"],
    {"objects": ["car", "dog"], "parts": {"car": ["wheel"]}, "part_format": "{object} {part}"},
    {"objects": {"car": ["wheel"], "dog": ["head"]}, "display": {"head": "face"}, "prompts": {"car:wheel": "tyre"}},
]  # fmt: skip
SENTENCES = ["car: wheel, door; person; dog: head", "a", "car:wheel;dog", "coco"]


def vocabulary(given: bytes | str, folder: Path) -> None:
    """Names of the text alone, each once; what is made of the names again is the same."""
    if isinstance(given, str):
        found, text = Vocabulary.parse(given), given
        if builtin_file(given.strip()) or Path(given).is_file():
            return
    else:
        (folder / "names.yaml").write_bytes(given)
        found, text = Vocabulary.parse(str(folder / "names.yaml")), ""
    again = Vocabulary(found.to_dict())
    assert again.object_names == found.object_names and again.part_owner == found.part_owner
    assert len(set(found.object_names)) == len(found.object_names)
    spaced = " ".join(text.split())
    assert not text or all(" ".join(name.split()) in spaced for name in found.object_names), found.object_names


def vocabulary_file(given: bytes, folder: Path) -> None:
    """Vocabulary files whose text YAML's own reader takes say the names that are read."""
    file = folder / "names.yaml"
    file.write_bytes(given)
    found = Vocabulary.parse(str(file))
    content = yaml.safe_load(given.decode("utf-8-sig"))
    if isinstance(content, dict) and not isinstance(content.get("objects"), (dict, list)):
        said = [str(name) for name in content]
    else:
        said = [str(name) for name in (content["objects"] if isinstance(content, dict) else content)]
    assert [" ".join(name.split()) for name in said] == list(found.object_names), (said, found.object_names)


CONFIGS: list[dict[str, Any]] = [
    {"_BASE_": "finetune_example.yaml", "SOLVER": {"BASE_LR": 0.001, "MAX_ITER": 10, "STEPS": [4, 8]},
     "DATASETS": {"TRAIN": ["a"], "TEST": ["b"], "RATIOS": [1.0]}, "OUTPUT_DIR": "out"},
    {"_BASE_": "tiny.yaml", "MODEL": {"EMBED_DIM": 32, "NUM_HEADS": 4, "TEXT": {"MODE": "frozen"},
     "PIXEL_MEAN": [0.1, 0.2, 0.3], "BACKBONE": {"NAME": "resnet18"}}, "TEST": {"LENIENT": True, "PERIOD": 3}},
]  # fmt: skip


def config(given: bytes, folder: Path) -> None:
    """Every value of the file is in the configuration, as the file says it."""
    file = folder / "config.yaml"
    file.write_bytes(given)
    cfg = load_config(file)
    check_values(cfg)
    for key, value in _leaves(yaml.safe_load(given.decode("utf-8-sig"))):
        if key.split(".")[0] == "_BASE_":
            continue
        node: Any = cfg
        for name in key.split("."):
            node = node[name]
        assert _same(node, value), f"{key} is {node!r}, the file says {value!r}"


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(b, str) and not isinstance(a, str):  # numbers in quotes are numbers, as fvcore reads them
        return repr(a) == b.strip()
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _leaves(node: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(node, dict):
        return [(prefix[:-1], node)]
    return [leaf for key, value in node.items() for leaf in _leaves(value, f"{prefix}{key}.")]


# -- weights


def _state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"pixel_decoder.transformer.level_embed": (3, 8), "part_queries_feat.weight": (4, 8)}
    more = {f"predictor.decoder.layers.{i}.linear1.weight": (6, 8) for i in range(4)}
    state = {f"glee.{key}": torch.randn(*shape, generator=generator) for key, shape in {**shapes, **more}.items()}
    return {**state, "glee.counter": torch.arange(5), "glee.flag": torch.tensor([True])}


@functools.cache
def weight_files() -> tuple[tuple[str, bytes], ...]:
    """(ending, content): a torch archive, one with wrappers, the old format, and ours."""
    files: list[tuple[str, bytes]] = [(".safetensors", save(_state(), metadata={"partglee_config": "tiny"}))]
    for content, zipped in ((_state(), True), ({"model": _state(), "iteration": 4}, True), (_state(), False)):
        stream = io.BytesIO()
        torch.save(content, stream, _use_new_zipfile_serialization=zipped)
        files.append((".pth", stream.getvalue()))
    return tuple(files)


def weights(given: tuple[str, bytes], folder: Path) -> None:
    """Refused, or the tensors that were written; the old format and ours have no checksums, only a layout."""
    ending, content = given
    file = folder / f"weights{ending}"
    file.write_bytes(content)
    found, ours = read_weights(file), _state()
    if content[:2] == b"PK":
        assert found.keys() == ours.keys(), f"keys {sorted(found)[:3]}"
        assert all(torch.equal(found[key], ours[key]) for key in ours), "tensors differ"
    for value in found.values():
        value.float().sum().item()
    state, report = convert_state_dict(found, "glee")
    missing = check_fit(state, {key: value for key, value in state.items()}, report)
    assert not missing and str(report)


@functools.cache
def table_files() -> tuple[tuple[str, bytes], ...]:
    """(ending, content) of name tables."""
    names, vectors = _table()
    files = []
    for writer in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        writer(stream, names=np.array(names), embeddings=vectors.astype(np.float16))
        files.append((".npz", stream.getvalue()))
    tensors = {"embeddings": torch.from_numpy(vectors)}
    return (*files, (".safetensors", save(tensors, metadata={"names": "\n".join(names)})))


def _table() -> tuple[list[str], np.ndarray]:
    names = ["car", "car wheel", "dog", "dog head", "\u00e9t\u00e9"]
    return names, np.random.default_rng(0).normal(size=(len(names), 16)).astype(np.float16).astype(np.float32)


def name_table(given: tuple[str, bytes], folder: Path) -> None:
    """Refused, or what was written; safetensors have no checksums, so of them the layout alone."""
    ending, content = given
    file = folder / f"names{ending}"
    file.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names, vectors = read_table(file)
    assert vectors.ndim == 2 and len(names) == len(vectors) and bool(torch.isfinite(vectors).all())
    if ending == ".npz":
        expected = _table()
        assert list(names) == expected[0] and np.array_equal(vectors.numpy(), expected[1]), "the table differs"
