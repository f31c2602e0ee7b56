"""Tables of name embeddings: enlarged by another tower's table and by words, and made by open_clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from partglee.cli import main
from partglee.text.name_tables import bridge, encode_names, extended, write_table
from partglee.text.table import TableBackend, read_table
from partglee.text.word_space import WordSpace, gram_features, sentence_encoder, unit

RNG = np.random.default_rng(0)
ENDS = ("ab", "ed", "ing", "or", "um", "il", "es", "op", "ut", "ank", "ish", "ent")
NAMES = [first + end for first in ("car", "dog", "cup", "hat", "box") for end in ENDS]


def towers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Two spaces of the same names, one a linear image of the other."""
    source = RNG.standard_normal((count, 12))
    return unit(source @ RNG.standard_normal((12, 8))), unit(source)


def test_names_cross_a_bridge() -> None:
    rng = np.random.default_rng(1)
    other = unit(rng.standard_normal((60, 12)))
    own = other @ np.linalg.qr(rng.standard_normal((12, 8)))[0]
    placed = bridge(NAMES[:50], own[:50], NAMES, other, NAMES[50:])
    likeness = placed @ unit(own[50:]).T
    assert (likeness.argmax(1) == np.arange(10)).all() and likeness.diagonal().min() > 0.8
    with pytest.raises(ValueError, match="30 names in common"):
        bridge(NAMES[:30], own[:30], NAMES, other, NAMES[50:])
    with pytest.raises(ValueError, match="'nothing'"):
        bridge(NAMES[:50], own[:50], NAMES, other, ["nothing"])


def test_a_word_lies_by_those_it_is_spelled_like() -> None:
    vectors = np.repeat(np.eye(5), 12, axis=0)  # the first syllable decides
    space = WordSpace(NAMES, vectors, encoder=None)
    likeness = space.nearness(["dogless", "hattery"])
    assert [NAMES[row][:3] for row in likeness.argmax(1)] == ["dog", "hat"]
    assert np.linalg.norm(space.place(["dogless"]), axis=1) == pytest.approx(1)


def test_ridge_is_that_of_the_normal_equations() -> None:
    vectors = unit(RNG.standard_normal((60, 8)))
    space = WordSpace(NAMES, vectors, encoder=None, ridge=0.5)
    x = gram_features(NAMES).toarray()
    used = np.flatnonzero(x.any(0))
    x = x[:, used]
    mean = vectors.mean(0)
    weights = np.linalg.solve(x.T @ x + 0.5 * np.eye(len(used)), x.T @ (vectors - mean))
    word = gram_features(["carbon"]).toarray()[:, used]
    assert space.place(["carbon"]) == pytest.approx(unit(word @ weights + mean))


def test_the_encoder_counts_beside_the_spelling() -> None:
    meanings = {name: np.eye(5)[place // 12] for place, name in enumerate(NAMES)} | {"wau": np.eye(5)[1]}
    space = WordSpace(
        NAMES, np.repeat(np.eye(5), 12, axis=0), encoder=lambda texts: np.array([meanings[text] for text in texts])
    )
    assert NAMES[space.nearness(["wau"]).argmax()][:3] == "dog"


def test_a_table_is_enlarged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, other = towers(60)
    write_table(NAMES[:55], own[:55], tmp_path / "own.npz")
    write_table(NAMES, other, tmp_path / "other.npz")
    out = tmp_path / "out.npz"
    command = ["name-table", "extend", str(tmp_path / "own.npz"), str(out), "--bridge", str(tmp_path / "other.npz")]
    assert main([*command, "--words", "carpool", NAMES[0].upper()]) == 0
    assert "55 names and 6 new ones, 8 wide" in capsys.readouterr().out
    names, vectors = read_table(out)
    assert names == (*NAMES, "carpool")
    assert (vectors[:55] == read_table(tmp_path / "own.npz")[1]).all(), "what a table has stays as it is"
    assert TableBackend(file=out, width=8).tokenize(["Carpool"])[0].item() == 60
    assert main(command[:4]) == 2 and "nothing to add" in capsys.readouterr().err


def test_what_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name it table\.npz"):
        write_table(["a"], np.zeros((1, 2)), tmp_path / "table.json")
    with pytest.raises(ValueError, match="one vector for each of 2 names"):
        write_table(["a", "b"], np.zeros((1, 2)), tmp_path / "table.npz")


def test_open_clip_makes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import open_clip
    import torch

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-S-32-alt")
    weights = tmp_path / "weights.pt"
    torch.save(model.state_dict(), weights)
    (tmp_path / "names.txt").write_text("dog\n\nfire_truck_(vehicle)\n")
    out = tmp_path / "made.npz"
    assert main(["name-table", "make", str(out), "--model", "ViT-S-32-alt", "--pretrained", str(weights),
                 "--names", str(tmp_path / "names.txt")]) == 0  # fmt: skip
    assert "2 names" in capsys.readouterr().out
    names, vectors = read_table(out)
    assert names == ("dog", "fire_truck_(vehicle)")
    with torch.no_grad():
        ids = open_clip.get_tokenizer("ViT-S-32-alt")(["a dog", "a fire truck"])
        wanted = torch.nn.functional.normalize(model.eval().encode_text(ids), dim=-1)
    torch.testing.assert_close(vectors, wanted, atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="open_clip cannot load 'ViT-Q'"):
        encode_names(["dog"], model="ViT-Q", pretrained="openai")
    with pytest.raises(ValueError, match="template must have"):
        encode_names(["dog"], model="ViT-S-32-alt", pretrained=str(weights), template="a dog")


def test_the_sentence_encoder_knows_meanings() -> None:
    encoder = sentence_encoder()
    if encoder is None:
        pytest.skip("the extra 'words' is not installed")
    sofa, couch, frog = encoder(["sofa", "couch", "frog"])
    assert sofa @ couch > 0.6 > 0.4 > sofa @ frog
    assert np.linalg.norm(sofa) == pytest.approx(1)


def test_real_tables_cross_the_bridge(shared: Path) -> None:
    folder = shared / "data" / "clip_name_embeddings"
    names, vectors = extended(folder / "clip_rn50_names.npz", bridge_from=folder / "clip_vit_b32_names.npz")
    backend_names = [name.lower() for name in names]
    assert len(names) > 2100
    mean = unit(vectors).mean(0)
    centred = unit(unit(vectors) - mean)
    best = (-centred @ centred[backend_names.index("suv")]).argsort()[1:4]
    assert "car" in {backend_names[row].split("_")[0] for row in best}
