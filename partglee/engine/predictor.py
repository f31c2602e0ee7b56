"""From a photo and a vocabulary to objects and their parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, overload

import torch
from typing_extensions import Unpack

from partglee.data.images import ImageSource
from partglee.engine.batches import canvas_batches, check_batch_size, check_workers, in_order, read_ahead
from partglee.engine.grounding import questions, sentences
from partglee.engine.image_input import InputImage, frames
from partglee.engine.image_predictor import ImagePredictor
from partglee.engine.inference import decode_images, detect, detect_vocabularies, expressions_at_once
from partglee.engine.prediction_calls import (
    EncodedImage,
    GroundOptions,
    OneImage,
    PredictOptions,
    chosen_options,
    expanded,
    stands_for_many,
)
from partglee.modeling.frame import Frame
from partglee.modeling.multi_label import MultiLabel
from partglee.modeling.postprocess import PostprocessOptions
from partglee.structures import Grounding, ModelOutput, Prediction, TextEmbeddings, Vocabulary, VocabularyLike
from partglee.text.phrases import PhraseParser, split_phrase
from partglee.text.words import Resolved, resolve


class Predictor(ImagePredictor):
    """A model with everything around it that images need.

    >>> predictor = Predictor.from_pretrained("partglee-tiny")  # doctest: +SKIP
    >>> prediction = predictor("street.jpg", "car: wheel, door; person", score_threshold=0.3)  # doctest: +SKIP

    An image that is asked about more than once is encoded once:

    >>> street = predictor.encode_image("street.jpg")  # doctest: +SKIP
    >>> cars, people = predictor(street, "car: wheel, door"), predictor(street, "person: arm")  # doctest: +SKIP
    >>> cars, people = predictor.decode(street, vocabularies=["car: wheel, door", "person: arm"])  # doctest: +SKIP
    >>> answers = predictor.ground(street, ["the red car", "everyone but the child"], union=True)  # doctest: +SKIP

    Args:
        model: put into evaluation mode.
        short_side, max_side: images are resized so that the short side has this many pixels, unless the long side would
            pass `max_side`.
        score_threshold, mask_box: defaults of the call.
        precision: `float32`, `bfloat16` / `float16` / `mixed` for autocast, or `auto`: what the hardware is quick at.
        max_pixels: larger images are refused.
    """

    # ------------------------------------------------------------------ prediction

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a path is a sequence of str
        self, images: OneImage, vocabulary: VocabularyLike, **options: Unpack[PredictOptions]
    ) -> Prediction: ...
    @overload
    def __call__(
        self, images: Sequence[ImageSource | InputImage], vocabulary: VocabularyLike, **options: Unpack[PredictOptions]
    ) -> list[Prediction]: ...
    @overload
    def __call__(
        self, images: Iterator[ImageSource | InputImage], vocabulary: VocabularyLike, **options: Unpack[PredictOptions]
    ) -> Iterator[Prediction]: ...

    def __call__(
        self,
        images: OneImage | Sequence[ImageSource | InputImage] | Iterator[ImageSource | InputImage],
        vocabulary: VocabularyLike,
        *,
        score_threshold: float | None = None,
        part_score_threshold: float | None = None,
        max_objects: int = 100,
        max_parts_per_object: int | None = None,
        restrict_parts: bool = True,
        object_overlap: float | None = 0.7,
        across_names: bool = False,
        part_overlap: float | None = 0.7,
        part_inside: float | None = 0.9,
        mask_box: float | None = None,
        masks: bool = True,
        multi_label: MultiLabel | None = None,
        batch_size: int = 1,
        workers: int = 2,
        strict: bool = False,
    ) -> Prediction | list[Prediction] | Iterator[Prediction]:
        """Find the objects of the vocabulary, and their parts.

        Args:
            images: a path, an address (http, https), a PIL image, an array (H, W, 3) uint8 RGB or a tensor (3, H, W);
                what `encode_image` gave; a list of images, in which folders and patterns ("photos/*.jpg") stand for
                their files; or a generator of images.
            vocabulary: whatever `Vocabulary.parse` takes: a dict, a list, "car: wheel, door; person", a file, a name.
            score_threshold: objects below it are dropped with their parts.
            part_score_threshold: for parts; None = as for objects.
            max_parts_per_object: keep the best parts of each object; None = all.
            restrict_parts: a part may only appear under an object that has it in the vocabulary; False lets all part
                names compete for every part, as the released code does.
            object_overlap: of equally named objects that overlap more than this (intersection over union of their
                masks, of boxes without masks), keep the best with its parts; None = all, as released.
            across_names: the same for objects of any names.
            part_overlap: of equally named parts of one object whose boxes overlap more than this, keep the best;
                None = all.
            part_inside: of equally named parts of one object of which one lies in the other by more than this share of
                its own area, keep the best; None = all.
            mask_box: masks end at so many times their box, 1.2 say, where those of neighbours run together; 0 = they
                lie anywhere, as released; None = as the weights say.
            masks: False saves their cost.
            multi_label: released evaluation: every name of every query is a candidate, and none of the options above
                counts but `masks`.
            strict: a name that a name table lacks is an error, which tells all of them. Otherwise it is read as the
                nearest one that the table has, or left out where none is near enough, with a warning, see `words`.
            batch_size: so many images of a list go through the network together where they need the same canvas; an
                image gives the same alone and in a batch, up to rounding.
            workers: threads that read and resize the images of coming batches; 0 = none ahead, as for batches of one.

        Returns:
            One `Prediction`; for a list of images a list; for a generator one that predicts as it is read.

        Raises:
            ValueError: for an image that cannot be read, an empty vocabulary or one of which a name table knows
                nothing, or an option out of its range.
        """
        options = PostprocessOptions(
            score_threshold=self.score_threshold if score_threshold is None else score_threshold,
            part_score_threshold=part_score_threshold,
            max_objects=max_objects,
            max_parts_per_object=max_parts_per_object,
            restrict_parts=restrict_parts,
            object_overlap=object_overlap,
            across_names=across_names,
            part_overlap=part_overlap,
            part_inside=part_inside,
            mask_box=self.defaults.mask_box if mask_box is None else mask_box or None,
            masks=masks,
            multi_label=multi_label,
        )
        names = self.words(vocabulary, strict=strict).warn()
        if isinstance(images, (list, tuple)) and not isinstance(images, InputImage):
            return list(self.stream(expanded(images), names, options, batch_size=batch_size, workers=workers))
        if isinstance(images, Iterator):
            return self.stream(images, names, options, batch_size=batch_size, workers=workers)
        one = cast("OneImage", images)
        if isinstance(one, (str, Path)) and (many := stands_for_many(one)):
            raise ValueError(f"{str(one)!r} stands for {many}, not for one image; put it into a list: [{str(one)!r}]")
        return next(self._detect(self._one(one), names, options))

    def words(self, vocabulary: VocabularyLike, *, strict: bool = False) -> Resolved:
        """How a vocabulary is read. A text tower reads any word. A name table has the names that it has: others become
        the nearest of these, or are left out.

        Returns:
            The vocabulary as it is read (names as they were asked), and what became of which word.

        Raises:
            ValueError: for no vocabulary; with `strict` for names that the table lacks, all at once.
        """
        return resolve(Vocabulary.parse(vocabulary), self.model.text_encoder.backend, strict=strict)

    def stream(
        self,
        images: Iterable[ImageSource | InputImage],
        vocabulary: Vocabulary,
        options: PostprocessOptions,
        *,
        batch_size: int = 1,
        workers: int = 2,
    ) -> Iterator[Prediction]:
        """Predict many images, in order; the vocabulary is encoded once, a few batches are in memory at a time."""
        self.model.embed(vocabulary)  # an unknown name is told before any image is read
        check_batch_size(batch_size)
        check_workers(workers)
        read = read_ahead(self.read, images, workers=workers if batch_size > 1 else 0, ahead=2 * batch_size)
        return in_order(self._of_batches(read, vocabulary, options, batch_size))

    def predict_batch(
        self, images: Sequence[InputImage], vocabulary: Vocabulary, options: PostprocessOptions
    ) -> Iterator[Prediction]:
        """Predict read images of one canvas, which go through the network together; masks are made one image at a time,
        as the iterator is read."""
        return self._detect(self.encode_batch(images), vocabulary, options)

    @overload
    def decode(
        self, encoded: EncodedImage, vocabulary: VocabularyLike, **options: Unpack[PredictOptions]
    ) -> Prediction: ...
    @overload
    def decode(
        self, encoded: EncodedImage, *, vocabularies: Sequence[VocabularyLike], **options: Unpack[PredictOptions]
    ) -> list[Prediction]: ...
    @overload
    def decode(  # type: ignore[overload-overlap]  # one expression is a sequence of str
        self, encoded: EncodedImage, *, expressions: str, **options: Unpack[GroundOptions]
    ) -> Grounding: ...
    @overload
    def decode(
        self, encoded: EncodedImage, *, expressions: Sequence[str], **options: Unpack[GroundOptions]
    ) -> list[Grounding]: ...

    def decode(
        self,
        encoded: EncodedImage,
        vocabulary: VocabularyLike | None = None,
        *,
        vocabularies: Sequence[VocabularyLike] | None = None,
        expressions: str | Sequence[str] | None = None,
        **options: Any,
    ) -> Prediction | list[Prediction] | Grounding | list[Grounding]:
        """Ask about an encoded image: a vocabulary as in the call, several of them, or expressions as in `ground`.

        Args:
            vocabularies: a list of what a call takes. They get what calls one by one would give, sooner: they share the
                image's memory in one pass of the decoders, and all queries that they choose alike.
            options: of the call, or of `ground`.

        Returns:
            What the call or `ground` returns; for vocabularies a `Prediction` each.

        Raises:
            ValueError: when none or several of the three are given.
        """
        if sum(question is not None for question in (vocabulary, vocabularies, expressions)) != 1:
            raise ValueError("pass either a vocabulary, vocabularies= or expressions=")
        if vocabulary is not None:
            return self(encoded, vocabulary, **options)
        if expressions is not None:
            return self.ground(encoded, expressions, **options)
        if isinstance(vocabularies, (str, Path)) or not isinstance(vocabularies, Sequence):
            raise TypeError(f"vocabularies must be a list of them, got {vocabularies!r:.60}")
        strict, kept = options.pop("strict", False), chosen_options(options, self.defaults)
        names = [self.words(one, strict=strict).warn() for one in vocabularies]
        return list(self._detect_each(encoded, names, kept)) if names else []

    @overload
    def ground(  # type: ignore[overload-overlap]  # one expression is a sequence of str
        self, image: OneImage, expressions: str, **options: Unpack[GroundOptions]
    ) -> Grounding: ...
    @overload
    def ground(
        self, image: OneImage, expressions: Sequence[str], **options: Unpack[GroundOptions]
    ) -> list[Grounding]: ...

    def ground(
        self,
        image: OneImage,
        expressions: str | Sequence[str],
        *,
        union: bool = False,
        score_threshold: float | None = None,
        parts: VocabularyLike | None = None,
        parser: PhraseParser = split_phrase,
    ) -> Grounding | list[Grounding]:
        """Find what referring expressions mean ("the red car on the left").

        Args:
            expressions: one, or a list; the image is encoded once for all of them.
            union: False: the one object with the best score. True: generalized expressions ("both dogs", "the zebra"
                where there is none), every object whose score reaches the threshold, so any number of them.
            score_threshold: what scores less is not meant; None = 0, or the predictor's own with `union`.
            parts: a vocabulary, in any form that a prediction takes. Expressions that mean one of its parts ("left arm
                of the man in red") are answered by all instances of that part of the one object that they describe.
            parser: takes such expressions apart; None of it = the expression means objects.

        Returns:
            One `Grounding` (for a list of expressions a list): a `Prediction` with a `mask` of all its rows together,
            `no_target` where no row is left, and `no_target_score`, 1 - the best score of any object. A score is the
            probability of the expression times the mask's own confidence.

        Raises:
            ValueError: for an expression without a word, or a model that reads names from a table.
            TypeError: for an expression that is no text.
        """
        asked = sentences(expressions)
        if score_threshold is None:
            score_threshold = self.score_threshold if union else 0.0
        PostprocessOptions(score_threshold=score_threshold)  # checks it
        encoded = self._one(image)
        names = None if parts is None else Vocabulary.parse(parts)
        frame, shown = frames(encoded.images, encoded.batch)[0], encoded.images[0]
        answers: dict[int, Grounding] = {}
        at_once = expressions_at_once(self.model, encoded)
        for some in questions(asked, names, parser, at_once=at_once):
            with torch.no_grad(), self.input.autocast(self.model.device):
                text = some.embed(self.model.text_encoder)
            output = self._output(encoded, text)
            for place, answer in some.answers(output, frame, union=union, score_threshold=score_threshold):
                answers[place] = replace(answer, image=shown.pixels, file_name=shown.file_name)
        return answers[0] if isinstance(expressions, str) else [answers[place] for place in range(len(asked))]

    def raw(self, images: Sequence[InputImage], vocabulary: Vocabulary) -> tuple[ModelOutput, list[Frame]]:
        """What the model says of read images of one canvas, before any choice, and the way from the canvas back to
        each image."""
        encoded = self.encode_batch(images)
        return self._output(encoded, self.model.embed(vocabulary)), frames(encoded.images, encoded.batch)

    # ------------------------------------------------------------------ internals

    def _one(self, image: OneImage) -> EncodedImage:
        encoded = self.encode_image(image)
        if len(encoded.images) != 1:
            raise ValueError(
                f"expected one image, got {len(encoded.images)} encoded together; ask one of them: encoded.picked([0])"
            )
        return encoded

    def _output(self, encoded: EncodedImage, text: TextEmbeddings) -> ModelOutput:
        return decode_images(self.model, encoded, text, precision=self.precision)

    def _of_batches(
        self, images: Iterable[InputImage], names: Vocabulary, options: PostprocessOptions, batch_size: int
    ) -> Iterator[tuple[int, Prediction]]:
        for some in canvas_batches(images, canvas=self.canvas, batch_size=batch_size):
            found = self.predict_batch([image for _, image in some], names, options)
            yield from zip([place for place, _ in some], found, strict=True)

    def _detect(self, encoded: EncodedImage, names: Vocabulary, options: PostprocessOptions) -> Iterator[Prediction]:
        # Text stays in full precision: it is cached, and shared by every image.
        text, sizes = self.model.embed(names), [image.size for image in encoded.images]
        predictions = detect(self.model, encoded, text, names, sizes, options, self.precision)
        for prediction, image in zip(predictions, encoded.images, strict=True):
            yield replace(prediction, image=image.pixels, file_name=image.file_name)

    def _detect_each(
        self, encoded: EncodedImage, vocabularies: Sequence[Vocabulary], options: PostprocessOptions
    ) -> Iterator[Prediction]:
        image = self._one(encoded).images[0]
        asked = [(self.model.embed(names), names) for names in vocabularies]
        for prediction in detect_vocabularies(self.model, encoded, asked, image.size, options, self.precision):
            yield replace(prediction, image=image.pixels, file_name=image.file_name)
