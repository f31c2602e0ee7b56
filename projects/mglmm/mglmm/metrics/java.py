"""The two caption metrics that exist in Java: METEOR's jar, and SPICE. Both come with `pycocoevalcap` (`[java]`)."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from mglmm.metrics.captions import check_sentences

_PARSER = "stanford-corenlp-3.6.0.jar"


def java_scores(references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> dict[str, float]:
    """`METEOR (Java)` and, where its parser lies beside it, `SPICE`; in percent.

    Args:
        references: for each image, its sentences; tokens are separated by spaces.
        hypotheses: one sentence for each image.

    Raises:
        ValueError: without Java, or without pycocoevalcap.
        TypeError, ValueError: for something else than lists of sentences and a sentence for each.
    """
    check_sentences(references, hypotheses)
    folder = scorer_folder()
    truth = {row: list(sentences) for row, sentences in enumerate(references)}
    said = {row: [sentence] for row, sentence in enumerate(hypotheses)}
    scores = {"METEOR (Java)": 100 * _meteor(truth, said)}
    if (folder / "spice" / "lib" / _PARSER).is_file():
        from pycocoevalcap.spice.spice import Spice

        scores["SPICE"] = 100 * float(Spice().compute_score(truth, said)[0])
    return scores


def why_no_spice() -> str:
    """What SPICE lacks here; "" where it can be computed."""
    try:
        folder = scorer_folder() / "spice" / "lib"
    except ValueError as error:
        return str(error)
    if (folder / _PARSER).is_file():
        return ""
    return f"SPICE needs {_PARSER} and its models of Stanford CoreNLP (2015-12-09) in {folder}"


def scorer_folder() -> Path:
    """Where pycocoevalcap and its jars lie; ValueError without Java, or without the package."""
    if shutil.which("java") is None:
        raise ValueError("METEOR's jar and SPICE need Java; install it, or leave --java out")
    found = importlib.util.find_spec("pycocoevalcap")
    places = list(found.submodule_search_locations or ()) if found else []
    if not places:
        raise ValueError("METEOR's jar and SPICE come with pycocoevalcap: pip install pycocoevalcap")
    return Path(places[0])


def _meteor(truth: Mapping[int, list[str]], said: Mapping[int, list[str]]) -> float:
    from pycocoevalcap.meteor.meteor import Meteor

    return float(Meteor().compute_score(truth, said)[0])
