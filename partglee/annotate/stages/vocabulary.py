"""Which names to look for in an image: its objects, with the parts that such objects have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from partglee.annotate.endpoint import Endpoint, read_names
from partglee.annotate.sample import Sample
from partglee.annotate.stage import Stage
from partglee.basics.files import read_json_lines
from partglee.basics.names import name_key

_QUESTION = (
    "List the visible physical parts of a typical {name} that one could outline in a photo. Answer with a JSON list of "
    'short lower-case names and nothing else, for example ["wheel", "door"]. An object without parts: [].'
)


class AddVocabulary(Stage):
    """The objects of an image, those of its regions or those named here, with the parts that they have.

    Args:
        objects: names for every image; None = the names of each image's object regions.
        parts: where part names come from: "known" (all built-in ontologies together), the name of one
            (`pascal_part_116` and others) or a vocabulary file, or "endpoint".
        endpoint: of a language model: `url`, `model` and what else `Endpoint` takes.
        answers: JSONL file of answers, {"object": name, "parts": [...]}: objects in it are not asked for, answers are
            added to it. With it the vocabulary of a name is the same in every worker and in every run.
    """

    outputs = ("vocabulary",)

    def __init__(
        self,
        *,
        objects: Sequence[str] | None = None,
        parts: str = "known",
        endpoint: Mapping[str, Any] | None = None,
        answers: str | None = None,
    ) -> None:
        if (parts == "endpoint") != (endpoint is not None):
            raise ValueError("parts: endpoint and endpoint: {url: .., model: ..} go together")
        self.objects, self.parts, self.answers = objects, parts, answers
        try:
            self.endpoint = None if endpoint is None else Endpoint(**endpoint)
        except TypeError as error:
            raise ValueError(f"endpoint: {error}") from error
        self._known: dict[str, tuple[str, ...]] = {}

    def columns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (("region.name", "region.level") if self.objects is None else ()), self.outputs

    def weight_files(self) -> Sequence[Path]:
        named = Path(self.parts)
        return (named,) if named.is_file() else ()

    def open(self) -> None:
        from partglee.structures import Vocabulary

        if self.parts not in ("known", "endpoint"):
            table = Vocabulary.parse(self.parts)
            self._known = {name_key(name): tuple(parts) for name, parts in table.to_dict().items()}
        if self.answers and Path(self.answers).is_file():
            for _, _, row in read_json_lines(self.answers, "file of answers"):
                self._known[name_key(row["object"])] = tuple(row["parts"])

    def run(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            names = self.objects
            if names is None:
                names = [region.name for _, region in sample.kept() if region.level == "object"]
            unique = list({name_key(name): name for name in names}.values())
            sample.vocabulary = {name: self.parts_of(name) for name in sorted(unique)}

    def parts_of(self, name: str) -> tuple[str, ...]:
        """Part names of an object; none for one that the source does not know."""
        key = name_key(name)
        if key not in self._known:
            if self.endpoint is not None:
                self._known[key] = self._ask(name)
            elif self.parts == "known":
                self._known[key] = _known_parts(name)
            else:
                self._known[key] = ()
        return self._known[key]

    def _ask(self, name: str) -> tuple[str, ...]:
        assert self.endpoint is not None
        parts = self.endpoint.ask(_QUESTION.format(name=name), lambda text: read_names(text, besides=[name]))
        if self.answers:
            Path(self.answers).parent.mkdir(parents=True, exist_ok=True)
            line = json.dumps({"object": name, "parts": parts}) + "\n"
            with open(self.answers, "a", encoding="utf-8") as stream:  # one write: lines of workers do not mix
                stream.write(line)
        return parts


def _known_parts(name: str) -> tuple[str, ...]:
    from partglee.structures import Vocabulary

    known = Vocabulary.with_known_parts([name])
    return known.parts_of(known.object_names[0])
