"""Captions that a CLIP model does not find in their box are dropped. D the width of its embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from partglee.annotate.plugs import resolve
from partglee.annotate.sample import Pixels, Sample
from partglee.annotate.stage import Stage

NORMALISATIONS = ("cosine", "scaled", "softmax")
_WHOLE = ("local-dir:", "hf-hub:")  # architecture, weights and tokenizer in one place, as open_clip has them


class Scorer(Protocol):
    """Pictures and texts in one space."""

    def images(self, crops: Sequence[Pixels]) -> NDArray[np.float64]:
        """N pictures -> (N, D)."""
        ...

    def texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """N texts -> (N, D)."""
        ...


def normalised(
    image: NDArray[np.float64],
    text: NDArray[np.float64],
    others: NDArray[np.float64],
    how: str,
    *,
    scale: float = 100.0,
) -> float:
    """How well a text fits a picture.

    Args:
        image, text: (D,) embeddings.
        others: (M, D) of distractors.
        how: "cosine"; "scaled", 2.5 max(cosine, 0) (CLIPScore, Hessel et al., 2021); "softmax", the text's share of
            exp(scale cosine) among itself and the distractors.
    """
    image, text = image / np.linalg.norm(image), text / np.linalg.norm(text)
    cosine = float(image @ text)
    if how == "cosine":
        return cosine
    if how == "scaled":
        return 2.5 * max(cosine, 0.0)
    logits = scale * np.concatenate([[cosine], (others / np.linalg.norm(others, axis=1, keepdims=True)) @ image])
    weights = np.exp(logits - logits.max())
    return float(weights[0] / weights.sum())


class FilterClip(Stage):
    """Drops regions whose caption fits their box less than a threshold (MRES: "similarity above 0.5").

    The paper names neither model nor normalisation; plain cosines rarely pass 0.35, so 0.5 is of a normalised score.

    Args:
        model: architecture and weights as open_clip names them ("ViT-B-32", "openai" or a file), with `weights`;
            "local-dir:FOLDER" or "hf-hub:NAME", which hold both; or `module:attribute` that is called with `weights`
            and gives a `Scorer`.
        normalisation: "cosine", "scaled" or "softmax".
        threshold: the least score that is kept.
        distractors: texts that "softmax" sets beside each caption, besides the other captions of the image.
        margin: share of its sides by which a box is grown before it is cut out.
    """

    inputs = ("image", "region.box", "region.caption")
    outputs = ("region.scores.clip",)

    def __init__(
        self,
        *,
        model: str = "ViT-B-32",
        weights: str = "openai",
        normalisation: str = "scaled",
        threshold: float = 0.5,
        distractors: Sequence[str] = ("a photo", "the background", "something else"),
        margin: float = 0.0,
    ) -> None:
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation must be one of {', '.join(NORMALISATIONS)}, got {normalisation!r}")
        if isinstance(distractors, str) or (normalisation == "softmax" and not distractors):
            raise ValueError(f"distractors must be a list of texts, got {distractors!r}")
        self.model, self.weights, self.normalisation, self.threshold = model, weights, normalisation, threshold
        self.distractors, self.margin = tuple(distractors), margin
        self._scorer: Any = None

    def weight_files(self) -> Sequence[Path]:
        if self.model.startswith(_WHOLE[0]):
            return sorted(Path(self.model.partition(":")[2]).glob("*.safetensors"))
        return (Path(self.weights),) if Path(self.weights).is_file() else ()

    def open(self) -> None:
        if self.model.startswith(_WHOLE):
            self._scorer = open_clip_scorer(self.model, "")
        elif ":" in self.model:
            self._scorer = resolve(self.model, {}, "scorer")(self.weights)
        else:
            self._scorer = open_clip_scorer(self.model, self.weights)
        self._fixed = self._scorer.texts(self.distractors) if self.distractors else np.zeros((0, 1))

    def run(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            regions = [region for _, region in sample.kept()]
            if not regions:
                continue
            assert sample.image is not None
            pictures = self._scorer.images([cut_out(sample.image, region.box, self.margin) for region in regions])
            captions = [str(region.caption) for region in regions]
            texts = self._scorer.texts(captions)
            for row, region in enumerate(regions):
                different = [n for n, caption in enumerate(captions) if caption != captions[row]]
                others = np.concatenate([texts[different], self._fixed.reshape(-1, texts.shape[1])])
                region.scores["clip"] = score = normalised(pictures[row], texts[row], others, self.normalisation)
                if score < self.threshold:
                    region.dropped = f"{self.name}: {self.normalisation} {score:.3f} < {self.threshold:g}"


def cut_out(image: Pixels, box: Sequence[float] | None, margin: float) -> Pixels:
    """The box of an image, grown by a share of its sides, at least one pixel."""
    assert box is not None
    height, width = image.shape[:2]
    grow = margin * (box[2] - box[0]), margin * (box[3] - box[1])
    x0, y0 = int(max(box[0] - grow[0], 0)), int(max(box[1] - grow[1], 0))
    x0, y0 = min(x0, width - 1), min(y0, height - 1)
    x1, y1 = int(np.ceil(min(box[2] + grow[0], width))), int(np.ceil(min(box[3] + grow[1], height)))
    return image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]


def open_clip_scorer(model: str, weights: str) -> Scorer:
    """A model of open_clip.

    Raises:
        ValueError: for one that it does not load.
    """
    return _OpenClip(model, weights)


class _OpenClip:
    def __init__(self, model: str, weights: str) -> None:
        import open_clip
        import torch

        try:
            self.model, _, self.see = open_clip.create_model_and_transforms(model, pretrained=weights or None)
            self.read: Callable[[list[str]], Any] = open_clip.get_tokenizer(model)
        except (RuntimeError, OSError, ValueError) as error:
            raise ValueError(f"open_clip does not load {model!r} with {weights!r}: {error}") from error
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = self.model.eval().to(self.device)

    def images(self, crops: Sequence[Pixels]) -> NDArray[np.float64]:
        import torch
        from PIL import Image

        batch = torch.stack([self.see(Image.fromarray(np.ascontiguousarray(crop))) for crop in crops])
        with torch.no_grad():
            found: NDArray[np.float64] = self.model.encode_image(batch.to(self.device)).double().cpu().numpy()
        return found

    def texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        import torch

        with torch.no_grad():
            found: NDArray[np.float64] = (
                self.model.encode_text(self.read(list(texts)).to(self.device)).double().cpu().numpy()
            )
        return found
