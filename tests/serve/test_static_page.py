"""The page of plain files: what is in it, whole or not at all; in a browser the rows of the exported graph."""

from __future__ import annotations

import functools
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driven_page import page_of, upload
from small_export import small_weights

from partglee import Predictor
from partglee.export import Card, ExportedPredictor, Names, export_model
from partglee.export.card import KEY
from partglee.export.page import BROWSER, write_page
from partglee.export.web_runtime import RUNTIME_FILES
from partglee.structures import Prediction
from partglee.text.word_forms import FOLDER, meanings, plurals
from partglee.text.words import WordReader

onnx = pytest.importorskip("onnx")
PAGE = Path(__file__).resolve().parents[2] / "partglee" / "serve" / "page"
WASM = b"\0asm\1\0\0\0" + b"\0\x82\1" + bytes(130)  # one section of 130 bytes
KNOWN = {"dog": ["head", "tail"], "person": ["arm"]}
VOCABULARY = {"dog": ["head", "tail"], "person": ["arm", "lower leg"]}


@pytest.fixture(scope="module")
def weights(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_weights(table, tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def predictor(weights: Path) -> Predictor:
    return Predictor.from_pretrained(weights, device="cpu")


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    folder = tmp_path / "onnxruntime-web"
    (folder / "dist").mkdir(parents=True)
    for name in RUNTIME_FILES:
        (folder / "dist" / name).write_bytes(WASM if name.endswith(".wasm") else name.encode())
    return folder


@pytest.fixture
def graph(tmp_path: Path) -> Callable[..., Path]:
    """A graph of nothing that says of itself what the page reads."""

    def written(**changes: Any) -> Path:
        card = Card(
            **{
                "vocabulary": None, "short_side": 64, "max_side": 128, "divisibility": 32, "size": None,
                "pixel_mean": (1.0, 2.0, 3.0), "score_threshold": 0.05, "weights": "small",
                "remarks": {"terms": "for tests alone"}, **changes,
            }
        )  # fmt: skip
        model = onnx.helper.make_model(onnx.helper.make_graph([], "nothing", [], []))
        model.metadata_props.add(key=KEY, value=card.to_json())
        file = tmp_path / "graph.onnx"
        onnx.save(model, str(file))
        return file

    return written


def test_everything_is_there(
    weights: Path, predictor: Predictor, runtime: Path, graph: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "site"
    write = functools.partial(
        write_page, weights, out, predictor=predictor, page=PAGE, known=KNOWN, runtime=runtime, graph=graph()
    )
    assert write() == out
    files = {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()}
    assert {"index.html", "app.js", "engine.js", "worker.js", "model.onnx", "gallery/officer.jpg"} <= files
    assert {f"ort/{name}" for name in RUNTIME_FILES} <= files
    assert (out / "engine.js").read_text() == (BROWSER / "engine.js").read_text() != (PAGE / "engine.js").read_text()
    about = json.loads((out / "names.json").read_text())
    assert about["objects"] == KNOWN and about["info"]["remarks"] == {"terms": "for tests alone"}
    assert about["input"] == {
        "short_side": 64,
        "max_side": 128,
        "divisibility": 32,
        "pixel_mean": [1, 2, 3],
        "mask_box": None,
    }
    vectors = np.fromfile(out / "names.bin", "<f4").reshape(len(about["names"]), about["width"])
    wanted = predictor.model.embed(predictor.words({"dog": ["tail"]}).vocabulary)
    for name, vector in (("dog", wanted.objects[0]), ("dog tail", wanted.parts[0])):
        np.testing.assert_allclose(vectors[about["names"].index(name)], vector.numpy(), rtol=0, atol=1e-6)
    (out / "gallery" / "old.jpg").touch()
    write()
    assert not (out / "gallery" / "old.jpg").exists(), "an earlier page is replaced as a whole"
    assert (out / "model.onnx").exists()
    (out / "CNAME").touch()
    with pytest.raises(ValueError, match=r"holds something else \(CNAME\)"):
        write()
    assert (out / "CNAME").exists() and (out / "model.onnx").exists(), "what is no page's own is not thrown away"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["graph.onnx", "onnxruntime-web", "site"]


def test_what_the_scripts_import_is_there(
    weights: Path, predictor: Predictor, runtime: Path, graph: Callable[..., Path], tmp_path: Path
) -> None:

    out = write_page(
        weights, tmp_path / "site", predictor=predictor, page=PAGE, known=KNOWN, runtime=runtime, graph=graph()
    )
    named = 0
    for script in out.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"|new URL\("([^"]+)"', script.read_text()):
            named += 1
            assert (out / "".join(name)).is_file(), f"{script.name} names {name}"
    assert named > 10


def test_bad_input(
    weights: Path, predictor: Predictor, runtime: Path, graph: Callable[..., Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    write = functools.partial(write_page, weights, predictor=predictor, page=PAGE, known=KNOWN)
    full = tmp_path / "full"
    full.mkdir()
    (full / "letter.txt").touch()
    (full / "names.json").write_text('{"mine": 1}')
    with pytest.raises(ValueError, match="holds something else"):
        write(full, runtime=runtime, graph=graph())
    with pytest.raises(ValueError, match="is not onnxruntime-web"):
        write(tmp_path / "a", runtime=full, graph=graph())
    with pytest.raises(ValueError, match="no graph"):
        write(tmp_path / "a", runtime=runtime, graph=tmp_path / "none.onnx")
    with pytest.raises(ValueError, match="fixed vocabulary or size"):
        write(tmp_path / "a", runtime=runtime, graph=graph(size=(64, 64)))
    for changed in ({"weights": "other"}, {"score_threshold": 0.3}):
        with pytest.raises(ValueError, match=r"expected one of .*small.safetensors"):
            write(tmp_path / "a", runtime=runtime, graph=graph(**changed))
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(graph().read_bytes()[:-20])
    with pytest.raises(ValueError, match="cut off or no ONNX graph"):
        write(tmp_path / "a", runtime=runtime, graph=cut)
    for broken in (WASM[:-1], WASM[:10], b"<html>not found</html>", b""):
        (runtime / "dist" / RUNTIME_FILES[-1]).write_bytes(broken)
        with pytest.raises(ValueError, match="cut off or no WebAssembly"):
            write(tmp_path / "a", runtime=runtime, graph=graph())
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for folder in (".", here, ".."):
        with pytest.raises(ValueError, match="the folder that you are in"):
            write(folder, runtime=runtime, graph=graph())
    assert not (tmp_path / "a").exists()
    assert sorted(entry.name for entry in full.iterdir()) == ["letter.txt", "names.json"]
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")], "nothing half-written stays"


def test_without_npm(
    weights: Path, predictor: Predictor, graph: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="npm is not there"):
        write_page(weights, tmp_path / "a", predictor=predictor, page=PAGE, known=KNOWN, graph=graph())
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho no such host >&2\nexit 1\n")
    npm.chmod(0o755)
    with pytest.raises(ValueError, match="no such host"):
        write_page(weights, tmp_path / "a", predictor=predictor, page=PAGE, known=KNOWN, graph=graph())


# ---------------------------------------------------------------- in node and in a browser


@pytest.mark.browser
def test_words_are_read_as_in_python(tmp_path: Path) -> None:
    """All but the nearest name, which a browser does not look for."""
    backend = Predictor.from_pretrained("partglee-tiny", device="cpu").model.text_encoder.backend
    table = backend.only_names()
    assert table is not None
    reader = WordReader(table, encoder=None)
    single = [*sorted(meanings())[::61], *sorted(plurals())[::41], *table.names[::29]]
    single += ["A Dog", "puppies", "light bulbs", "kitchen chair", "e-bike", "qzxv", "wine-glass", "policemen", "shoes"]
    pairs = [(owner, part) for owner in ("person", "car", "woman", "chair") for part in single[::3]]
    pairs += [("person", "hands"), ("SUV", "tyre"), ("woman", "left eye"), ("dog", "paw"), ("table", "knee")]
    asked = {"objects": single, "parts": [[owner, part, reader.read_object(owner).text] for owner, part in pairs]}
    asked |= {"names": table.names, "vectors": table.embeddings.flatten().tolist()}
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    script = f"""
        import {{ readFileSync }} from "node:fs";
        import {{ Words }} from "{BROWSER / "words.js"}";
        const read = (file) => readFileSync(file, "utf8");
        const asked = JSON.parse(read("{tmp_path / "asked.json"}"));
        const [plurals, synonyms] = ["plurals.txt", "synonyms.txt"].map((name) => read(`{FOLDER}/${{name}}`));
        const words = new Words({{ names: asked.names, vectors: asked.vectors, plurals, synonyms }});
        const row = (name) => (name === null ? null : words.row(name));
        const parts = asked.parts.map(([owner, part, as]) => row(words.part(owner, part, as)));
        console.log(JSON.stringify([asked.objects.map((name) => row(words.object(name))), parts]));
    """
    told = subprocess.run(["node", "--input-type=module", "-e", script], capture_output=True, text=True, check=True)
    found = [row for rows in json.loads(told.stdout) for row in rows]
    readings = [reader.read_object(word) for word in single]
    readings += [reader.read_part(owner, part, owner_as=as_) for owner, part, as_ in asked["parts"]]
    mapped = 0
    for reading, row in zip(readings, found, strict=True):
        if reading.why in ("nearest", "unknown"):
            continue
        assert reading.text is not None
        mapped += 1
        assert row == backend.tokenize([reading.text])[0].item(), reading
    assert mapped > 200


@pytest.fixture(scope="module")
def site(weights: Path, predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A page of a small model, served."""
    if shutil.which("npm") is None:
        pytest.skip("no npm here")
    folder = tmp_path_factory.mktemp("site")
    graph = folder / "small.onnx"
    export_model(weights, graph, format="onnx", vocabulary=None, score_threshold=0.05)
    write_page(weights, folder / "page", predictor=predictor, page=PAGE, known=KNOWN, graph=graph)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder / "page"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", graph
    server.shutdown()
    thread.join()


@pytest.mark.browser
def test_a_browser_finds_what_python_finds(
    browser: Any, image: Callable[..., bytes], site: tuple[str, Path], predictor: Predictor, tmp_path: Path
) -> None:
    address, graph = site
    text = "dog: head, tail; person: arm, lower leg"
    with page_of(browser, address) as page:
        upload(page, image, text)
        with page.expect_download() as told:
            page.locator("#json").click()
        found = json.loads(Path(told.value.path()).read_text())
        page.locator("#names").fill("dog; qzxv")
        page.locator("#find").click()
        page.locator("#notes").wait_for()
        assert "qzxv" in page.locator("#notes").inner_text()
        page.locator("#names").fill("qzxv")
        page.locator("#find").click()
        page.locator("#error").wait_for()
        assert "knows none of these names" in page.locator("#error").inner_text()
    (tmp_path / "mine.png").write_bytes(image(3))
    exported = ExportedPredictor.open(graph, threads=1)
    wanted = exported(tmp_path / "mine.png", Names.of(predictor, VOCABULARY))
    rows = Prediction.from_json(json.dumps(found))
    assert rows.names == wanted.names and rows.parent.tolist() == wanted.parent.tolist() and len(rows.names) > 0
    np.testing.assert_allclose(rows.boxes.numpy(), wanted.boxes.numpy(), rtol=0, atol=1e-3)
    np.testing.assert_allclose(rows.scores.numpy(), wanted.scores.numpy(), rtol=0, atol=1e-4)
    assert rows.masks is not None and wanted.masks is not None
    assert (rows.masks != wanted.masks).float().mean() < 1e-4
