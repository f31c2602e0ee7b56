"""The page of `partglee serve` without a server: a folder of files whose model runs in the visitor's browser.

R names of the table, D width of their embeddings.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from partglee.basics.disk import naming_disk
from partglee.basics.files import read_json
from partglee.engine import Predictor
from partglee.engine.weight_files import find_weights
from partglee.export.build import export_model
from partglee.export.card import KEY, Card
from partglee.export.extras import needed
from partglee.export.web_runtime import copy_runtime
from partglee.text.table import TableBackend
from partglee.text.word_forms import FOLDER as WORD_FILES

BROWSER = Path(__file__).parent / "browser"
LOWEST_SCORE = 0.05  # what the page's slider begins at
_MARK = "names.json"  # says which files are the page's; a folder with these alone may be replaced
_INPUTS = ("short_side", "max_side", "divisibility", "pixel_mean", "mask_box")


def write_page(
    weights: str | Path,
    out: str | Path,
    *,
    predictor: Predictor,
    page: Path,
    known: Mapping[str, Sequence[str]],
    runtime: str | Path | None = None,
    graph: str | Path | None = None,
) -> Path:
    """Write the page, complete, with model and runtime: about 38 MB for `partglee-tiny`.

    Any web server that hands out files serves it. It works offline; photos stay in the browser.

    Args:
        weights: as `Predictor.from_pretrained` takes them; their names must come from a table.
        predictor: of these weights.
        out: a folder that is new or empty, or an earlier page with nothing else in it, which is replaced when all is
            there.
        page: folder of the page's files; its `engine.js` is replaced.
        known: objects and their parts, for completion.
        runtime: folder of onnxruntime-web, as npm unpacks it (or its `dist`); None = `npm` fetches `RUNTIME`.
        graph: a file that `partglee export WEIGHTS graph.onnx --names-as-inputs` wrote; None = draw it now.

    Raises:
        ValueError: for a model whose names a browser cannot read, a folder with other things in it, a runtime or graph
            that is not there, cut off or of another kind.
    """
    target = Path(out)
    _may_be_replaced(target)
    names, vectors = _table(predictor, weights)
    target.parent.mkdir(parents=True, exist_ok=True)
    with naming_disk(target), tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        made = Path(scratch) / "page"
        shutil.copytree(page, made, ignore=shutil.ignore_patterns("engine.js", "__pycache__"))
        for file in (*BROWSER.glob("*.js"), WORD_FILES / "plurals.txt", WORD_FILES / "synonyms.txt"):
            shutil.copy(file, made)
        copy_runtime(made / "ort", runtime, Path(scratch))
        card = _copy_graph(made / "model.onnx", weights, graph)
        vectors.astype("<f4").tofile(made / "names.bin")
        about = {
            "names": names,
            "width": vectors.shape[1],
            "objects": {name: list(parts) for name, parts in known.items()},
            "input": {key: getattr(card, key) for key in _INPUTS},
            "info": {
                "model": card.weights,
                "score_threshold": predictor.score_threshold,
                "remarks": dict(card.remarks),
                "limits": None,
            },
        }
        about["files"] = sorted([*(entry.name for entry in made.iterdir()), _MARK])
        (made / _MARK).write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
        _take_place(made, target, Path(scratch))
    return target


def _may_be_replaced(target: Path) -> None:
    """Nothing that is not a page's own is ever thrown away.

    Raises:
        ValueError: for a file, the folder that we are in, or one with anything else than an earlier page.
    """
    if target.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise ValueError(f"{target} is the folder that you are in; name a new one, such as site")
    there = {entry.name for entry in target.iterdir()} if target.is_dir() else set()
    others = sorted(there - _own_files(target / _MARK))
    if target.is_file() or others:
        what = f" ({', '.join(others[:3])})" if others else ""
        raise ValueError(f"{target} holds something else{what}; name a new folder, or one with an earlier page alone")


def _own_files(mark: Path) -> set[str]:
    try:
        return set(read_json(mark, "page")["files"])
    except (ValueError, OSError, TypeError, KeyError):
        return set()


def _table(predictor: Predictor, weights: str | Path) -> tuple[list[str], np.ndarray]:
    """The R names that the weights read, and what the network takes for each, (R, D)."""
    encoder = predictor.model.text_encoder
    table = encoder.backend.only_names()
    if not isinstance(table, TableBackend) or predictor.model.fuse_categories:
        kind = "reads names with a text tower" if table is None else "fuses the words of names into the image"
        raise ValueError(
            f"{weights} {kind}, which a page has no room for; take weights with a name table, such as partglee-tiny"
        )
    with torch.no_grad():
        states = table.embeddings if encoder.projection is None else table.embeddings @ encoder.projection
    return list(table.names), states.float().cpu().numpy()


def _copy_graph(to: Path, weights: str | Path, graph: str | Path | None) -> Card:
    if graph is None:
        export_model(weights, to, format="onnx", vocabulary=None, score_threshold=LOWEST_SCORE)
    elif not Path(graph).is_file():
        raise ValueError(f"no graph {graph}; leave it out, and it is drawn now")
    else:
        shutil.copy(graph, to)
    try:
        model = needed("onnx").load(str(to), load_external_data=False)
    except ValueError:
        raise
    except Exception as error:  # protobuf's own class
        raise ValueError(f"{graph} is cut off or no ONNX graph ({error}); export it again") from error
    told = {entry.key: entry.value for entry in model.metadata_props}
    card = Card.from_json(told.get(KEY), str(graph or to))
    if card.vocabulary is not None or card.size is not None:
        raise ValueError(f"{graph} has a fixed vocabulary or size; export it with --names-as-inputs and without --size")
    if card.weights != find_weights(weights).stem or card.score_threshold > LOWEST_SCORE:
        raise ValueError(
            f"{graph} is of {card.weights!r} from a score of {card.score_threshold:g}; expected one of {weights}, "
            f"exported with --score-threshold {LOWEST_SCORE:g}"
        )
    return card


def _take_place(made: Path, target: Path, scratch: Path) -> None:
    made.chmod(0o755)
    if target.is_dir():
        target.rename(scratch / "before")
    made.rename(target)
