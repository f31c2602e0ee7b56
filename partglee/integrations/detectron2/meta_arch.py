"""PartGLEE as a meta-architecture of detectron2. B images, K classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from detectron2.config import configurable
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn.modules.module import _IncompatibleKeys

from partglee import modeling
from partglee.basics.processes import num_processes
from partglee.checkpoint.notes import is_note, note, read_note
from partglee.criterion import HierarchicalCriterion, build_criterion, sum_terms
from partglee.data import DatasetSpec
from partglee.engine.inference import predict_resized
from partglee.engine.partglee_recipe import TrainingStep
from partglee.engine.pretrained import load_pretrained
from partglee.engine.weights import load_backbone
from partglee.integrations.detectron2.batches import original_size, plain_spec, rgb, supervised_by, training_batch
from partglee.integrations.detectron2.classes import classes_of_datasets, differing, listed_classes, readable
from partglee.integrations.detectron2.config import keys_of, model_config, options_of
from partglee.integrations.detectron2.instances import to_instances
from partglee.integrations.detectron2.weights import SCHEME, fill
from partglee.modeling import PostprocessOptions
from partglee.modeling.backbone import Backbone
from partglee.structures import ClassList, Vocabulary

FORMATS = ("RGB", "BGR")


class PartGLEE(nn.Module):
    """Input dicts of detectron2 to `{"instances": Instances}`, or to a dict of weighted losses while training.

    An input has `image` (3, h, w) in the colours of `input_format`, uint8 or float, and perhaps `height` and `width`
    of the answer; in training `instances`, see `batches.training_batch`. Instances are those of `to_instances`.

    Args:
        model: of `partglee.build_model`.
        criterion: of `partglee.criterion.build_criterion`; None = the model cannot be trained here.
        classes: what is looked for, a `ClassList` or whatever `Vocabulary.parse` takes.
        train_classes: the labels of training; None = `classes`.
        input_format: colours of `image`, "RGB" or "BGR".
        options: what is kept of an image.
        precision: of prediction, `float32`, `bfloat16` or `float16`.
        spec: what training annotations mean; None = all is annotated.
        sampled_names: names of a training batch at each level; 0 = all.
        dataset_ids: category id of the training file -> class, for `neg_category_ids`; None = those of LVIS.
        config_text: of the model's own configuration, which a saved state dict says.
        class_lists: data set -> its list of classes; a state dict that says another one is not loaded.

    Raises:
        ValueError: for colours that the weights were not trained with, or classes that the model cannot read.
    """

    @configurable  # type: ignore[misc, untyped-decorator]
    def __init__(
        self,
        *,
        model: modeling.PartGLEE,
        criterion: HierarchicalCriterion | None = None,
        classes: Any,
        train_classes: ClassList | None = None,
        input_format: str = "RGB",
        options: PostprocessOptions | None = None,
        precision: str = "float32",
        spec: DatasetSpec | None = None,
        sampled_names: int = 0,
        dataset_ids: Mapping[int, int] | None = None,
        config_text: str = "",
        class_lists: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        if input_format not in FORMATS:
            raise ValueError(
                f"INPUT.FORMAT must be RGB or BGR, got {input_format!r}: the weights were trained with RGB pixels, "
                "whose order alone can be changed"
            )
        self.model = model
        self.criterion = criterion
        self.input_format = input_format
        self.options = options or PostprocessOptions()
        self.precision = precision
        self.spec = spec
        self.sampled_names = sampled_names
        self.dataset_ids = None if dataset_ids is None else dict(dataset_ids)
        self.config_text = config_text
        self.class_lists = {name: list(names) for name, names in (class_lists or {}).items()}
        self.set_classes(classes)
        self._train_classes = train_classes
        self._ready_to_train: ClassList | None = None
        self._step: tuple[TrainingStep, ...] = ()  # holds the model as well: not a module of this one

    def set_classes(self, classes: Any) -> None:
        """Look for other names from now on: a `ClassList`, or whatever `Vocabulary.parse` takes."""
        if not isinstance(classes, ClassList):
            classes = ClassList.of(Vocabulary.parse(classes))
        self.classes = readable(classes, self.model.text_encoder.backend, strict=False)

    @classmethod
    def from_config(cls, cfg: Any) -> dict[str, Any]:
        """Arguments of the constructor from a configuration of detectron2; see docs/detectron2.md for its keys."""
        own, keys = model_config(cfg), keys_of(cfg)
        model = modeling.build_model(own)
        if own.MODEL.BACKBONE.WEIGHTS and not cfg.MODEL.WEIGHTS:
            load_backbone(cast(Backbone, model.backbone), own.MODEL.BACKBONE.WEIGHTS)
        train = classes_of_datasets(cfg, cfg.DATASETS.TRAIN, "DATASETS.TRAIN")
        test = classes_of_datasets(cfg, cfg.DATASETS.TEST, "DATASETS.TEST") or train
        if test is None:
            if not keys.VOCABULARY:
                raise ValueError(
                    "no names to look for: the metadata of DATASETS.TEST and DATASETS.TRAIN lists no thing_classes; "
                    "set MODEL.PARTGLEE.VOCABULARY, such as 'car: wheel, door; person'"
                )
            test = ClassList.of(Vocabulary.parse(keys.VOCABULARY))
        metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]) if len(cfg.DATASETS.TRAIN) else None
        lists = {name: listed_classes(MetadataCatalog.get(name)) for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)}
        return {
            "model": model,
            "criterion": build_criterion(own),
            "classes": test,
            "train_classes": train,
            "input_format": cfg.INPUT.FORMAT,
            "options": options_of(cfg, own),
            "precision": keys.PRECISION,
            "spec": None if metadata is None else metadata.get("partglee_spec"),
            "sampled_names": keys.SAMPLED_NAMES,
            "dataset_ids": None if metadata is None else metadata.get("thing_dataset_id_to_contiguous_id"),
            "config_text": own.dump(),
            "class_lists": {name: classes for name, classes in lists.items() if classes},
        }

    @classmethod
    def from_weights(
        cls, weights: str, classes: Any, *, overrides: Sequence[Any] = (), training: bool = False, **arguments: Any
    ) -> PartGLEE:
        """The same from weights alone, for lazy configurations and plain loops.

        Args:
            weights: a `.safetensors` file or a name of the zoo.
            classes: as for the constructor.
            overrides: `[KEY, VALUE, ...]` of the model's own configuration.
            training: keep what only training needs.
            arguments: others of the constructor.
        """
        model, own = load_pretrained(weights.removeprefix(SCHEME), overrides, device="cpu", training=training)
        kept = PostprocessOptions(score_threshold=own.TEST.SCORE_THRESHOLD, mask_box=own.TEST.MASK_BOX or None)
        arguments.setdefault("options", kept)
        made: PartGLEE = cls(
            model=model, criterion=build_criterion(own), classes=classes, config_text=own.dump(), **arguments
        )
        return made.train(training)

    @property
    def device(self) -> torch.device:
        return self.model.device

    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> Any:
        """One list of input dicts.

        Returns:
            In training `{level/term: weighted loss}`, else `{"instances": Instances}` for each image.

        Raises:
            TypeError, ValueError: for inputs that are not as the class says, with their file names.
        """
        if not isinstance(batched_inputs, (list, tuple)):
            raise TypeError(f"the model takes a list of dicts with 'image', got {type(batched_inputs).__name__}")
        return self.losses(batched_inputs) if self.training else self.inference(batched_inputs)

    def inference(self, batched_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Predictions, on the CPU."""
        predictions = predict_resized(
            self.model,
            [rgb(entry, self.input_format) for entry in batched_inputs],
            [original_size(entry) for entry in batched_inputs],
            self.classes.vocabulary,
            self.options,
            precision=self.precision,
        )
        return [{"instances": to_instances(prediction, self.classes)} for prediction in predictions]

    def losses(self, batched_inputs: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Weighted losses with their gradients; their sum is what to minimise."""
        step, classes = self._training_step(), self._training_classes()
        name = next(iter(self.class_lists), "detectron2")
        spec = (
            plain_spec(classes, name=name, sampled_names=self.sampled_names)
            if self.spec is None
            else supervised_by(self.spec, classes, sampled_names=self.sampled_names)
        )
        batch = training_batch(
            batched_inputs,
            classes,
            spec,
            input_format=self.input_format,
            divisibility=self.model.size_divisibility,
            dataset_ids=self.dataset_ids,
        )
        terms = sum_terms(step.losses(batch)) or {"object/class": step.nothing()}
        if num_processes() > 1:
            # Their data-parallel wrapper waits for a gradient of every weight, also of those that this batch, or the
            # whole data set, does not reach.
            first = next(iter(terms))
            reached = [p.flatten()[0] for p in self.parameters() if p.requires_grad]
            terms[first] = terms[first] + 0 * torch.stack(reached).sum()
        return terms

    def _training_step(self) -> TrainingStep:
        if self.criterion is None:
            raise ValueError("this model has no criterion; pass one to train it (partglee.criterion.build_criterion)")
        if not self._step or self._step[0].model is not self.model:
            self._step = (TrainingStep(model=self.model, criterion=self.criterion),)
        return self._step[0]

    def _training_classes(self) -> ClassList:
        if self._ready_to_train is None:
            classes = self._train_classes or self.classes
            self._ready_to_train = readable(classes, self.model.text_encoder.backend, strict=True)
        return self._ready_to_train

    # -- weights -------------------------------------------------------------------------------------------------------

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        key, text = note({"config": self.config_text, "class_lists": self.class_lists})
        destination[prefix + key] = text

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        """As a module of another: what the weights say of themselves is no weight."""
        for key in [key for key in state_dict if key.startswith(prefix) and is_note(key.removeprefix(prefix))]:
            state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Fill every weight, from a state dict of this module or of our own files.

        Raises:
            ValueError: when a weight stays unfilled, whatever `strict` says; when the weights were trained with another
                list of classes of a data set that this model is for.
        """
        told = read_note(state_dict).get("class_lists", {})
        for name, now in self.class_lists.items():
            if name in told and list(told[name]) != now:
                raise ValueError(
                    f"the list of classes of {name!r} changed since these weights were trained "
                    f"({differing(told[name], now)}, these weights first); register it as it was, or under another name"
                )
        return _IncompatibleKeys([], fill(self.model, dict(state_dict)))


META_ARCH_REGISTRY.register(PartGLEE)
