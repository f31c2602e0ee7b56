"""A language model that sees, and a mask decoder that it prompts: MGLMM (arXiv 2409.13407, figure 3).

B conversations, T tokens with images expanded, h width of the language model, N masks of all answers, D prompt width.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mglmm.chat import Chat, ChatBatch
from mglmm.losses import WEIGHTS, mask_losses, token_loss, weighted
from mglmm.masks import DecodedMasks, MaskDecoder
from mglmm.positions import counts, states_that_predict, take
from mglmm.prompt import PromptProjection

if TYPE_CHECKING:
    from typing_extensions import Self

# What has running statistics.
_NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
)  # fmt: skip


class MaskTargets(NamedTuple):
    """The true masks of a batch, conversation by conversation, in the order in which the answers announce them."""

    masks: Tensor  # (N, H, W) bool, on the canvas
    number: tuple[int, ...]  # of each of B conversations; their sum is N
    sizes: tuple[tuple[int, int], ...]  # (h, w) of each conversation's image before padding


class MGLMM(nn.Module):
    """Any image-text-to-text model of transformers, with a mask decoder.

    Args:
        lmm: with rows for the marks (`mglmm.tokens.grow_tables`).
        masks: whose encoder is frozen.
        seg: id of `[SEG]`.
        activation: of the projection between the two.
        weights: of the losses.

    Raises:
        ValueError: for a model without a row for `[SEG]`.
    """

    def __init__(
        self,
        *,
        lmm: Any,
        masks: MaskDecoder,
        seg: int,
        activation: str = "relu",
        weights: Mapping[str, float] = WEIGHTS,
    ) -> None:
        super().__init__()
        rows = int(lmm.get_input_embeddings().weight.shape[0])
        if not 0 <= seg < rows:
            raise ValueError(
                f"[SEG] is token {seg}, but the model has rows for {rows}; `mglmm.tokens.grow_tables(model, "
                "tokenizer)` adds them"
            )
        self.lmm = lmm
        self.masks = masks
        self.seg = seg
        self.chat: Chat | None = None  # what reads its conversations, where it was built from a configuration
        self.fresh: tuple[str, ...] = ()  # beginnings of names of weights that were made anew, not read from a file
        self._given: set[str] = set()  # names of weights that `MODEL.WEIGHTS` gave
        self.weights = dict(weights)
        width = int(lmm.get_input_embeddings().weight.shape[1])
        self.prompt = PromptProjection(state_dim=width, prompt_dim=masks.prompt_dim, activation=activation)

    @property
    def device(self) -> torch.device:
        return self.lmm.get_input_embeddings().weight.device

    @property
    def context(self) -> int | None:
        """Tokens that the language model reads at most; None where its configuration does not say."""
        text = self.lmm.config.get_text_config()
        return getattr(text, "max_position_embeddings", None)

    def states(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(B, T, h): what the token table at the end reads."""
        said = self.lmm.model(**inputs, use_cache=False)
        states: Tensor = said.last_hidden_state
        return states

    def forward(self, chat: ChatBatch, features: Any, targets: MaskTargets) -> dict[str, Tensor]:
        """Weighted loss terms of one batch on the model's device.

        Args:
            chat: with whole answers.
            features: of the mask decoder's images, one for each conversation.

        Raises:
            ValueError: when an answer announces another number of masks than it has.
        """
        ids = chat.inputs["input_ids"]
        places = states_that_predict(self.seg, ids, answer=chat.answer)
        announced = counts(places, len(ids)).tolist()
        if announced != list(targets.number):
            row = next(i for i, pair in enumerate(zip(announced, targets.number, strict=True)) if pair[0] != pair[1])
            raise ValueError(
                f"conversation {row} of the batch has {announced[row]} [SEG] in its answers and {targets.number[row]} "
                "masks; every mask is announced once"
            )
        states = self.states(chat.inputs)
        before = chat.answer[:, 1:]
        logits = self.lmm.get_output_embeddings()(states[:, :-1][before])
        terms = {"ce": token_loss(logits, ids[:, 1:][before])}
        prompts = self.prompt(take(states, places))
        decoded = self.masks.decode(features, prompts, places.row, targets.masks)
        terms |= self._mask_terms(decoded, places.row, targets, prompts)
        return weighted(terms, self.weights)

    def _mask_terms(
        self, decoded: DecodedMasks, image_of: Tensor, targets: MaskTargets, prompts: Tensor
    ) -> dict[str, Tensor]:
        if not len(image_of):  # connected all the same: processes exchange gradients of the same weights
            nothing = prompts.sum() * 0 + sum(weight.sum() * 0 for _, weight in self.masks.learning())
            return {"bce": nothing, "dice": nothing}
        canvas = (int(targets.masks.shape[-2]), int(targets.masks.shape[-1]))
        large = F.interpolate(decoded.logits[:, None].float(), size=canvas, mode="bilinear", align_corners=False)[:, 0]
        shown, truth = [], []
        for n, row in enumerate(image_of.tolist()):  # padding belongs to no image
            h, w = targets.sizes[row]
            shown.append(large[n, :h, :w])
            truth.append(targets.masks[n, :h, :w])
        terms = mask_losses(shown, truth)
        return terms if decoded.loss is None else {**terms, "choice": decoded.loss}

    # ------------------------------------------------------------------ what trains, what is kept

    def learning(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and weights that train."""
        return ((name, weight) for name, weight in self.named_parameters() if weight.requires_grad)

    def running(self) -> Iterator[tuple[str, Tensor]]:
        """Names and buffers that training moves: running statistics of norms whose weights train."""
        for place, module in self.named_modules():
            if isinstance(module, _NORMS) and _learns(module):
                yield from ((f"{place}.{name}", value) for name, value in module.named_buffers(recurse=False))

    def train(self, mode: bool = True) -> Self:
        """As of any module; norms whose weights do not train keep their statistics, which are not saved."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _NORMS) and not _learns(module):
                module.eval()
        return self

    def keep(self, names: Collection[str]) -> None:
        """Weights that a run's file gave belong to what is saved, whether they train here or not: what the model was
        built from does not have them.

        Args:
            names: others than the model's are left out.
        """
        self._given |= super().state_dict().keys() & set(names)

    def kept(self) -> Iterator[tuple[str, Tensor]]:
        """Names and tensors that are saved: `learning`, `running`, and what stays but can be read nowhere else."""
        found: dict[str, Tensor] = {**dict(self.learning()), **dict(self.running())}
        found |= {name: weight for name, weight in self.named_parameters() if name.startswith(self.fresh)}
        whole = super().state_dict() if self._given else {}
        found |= {name: whole[name] for name in sorted(self._given - found.keys())}
        return iter(found.items())

    def trained_state(self) -> dict[str, Tensor]:
        """The tensors of `kept` alone: of a large model with adapters a small share of it."""
        return {name: value.detach() for name, value in self.kept()}

    def load_trained(self, state: Mapping[str, Tensor]) -> None:
        """Take the tensors of `trained_state`.

        Raises:
            ValueError: when they are not those that this model keeps.
        """
        own = dict(self.kept())
        lacking, foreign = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        wrong = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
        if lacking or foreign or wrong:
            first: Sequence[str] = lacking or foreign or wrong
            raise ValueError(
                f"these weights are of another model or another tuning: {len(lacking)} are lacking, {len(foreign)} are "
                f"too many, {len(wrong)} have another shape; the first is {first[0]!r}"
            )
        with torch.no_grad():
            for name, weight in own.items():
                weight.copy_(state[name])

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:  # type: ignore[override]
        """Of `kept` alone, where it is asked for as a whole: checkpoints are small, the rest is where it was."""
        whole: dict[str, Any] = super().state_dict(*args, **options)
        if args or options.get("destination") is not None or options.get("prefix"):
            return whole
        kept = {name for name, _ in self.kept()}
        return {name: value for name, value in whole.items() if name in kept}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """What `state_dict` gives; strict: all of it and nothing else."""
        if strict:
            self.load_trained(state_dict)
        return super().load_state_dict(state_dict, strict=False, assign=assign)

    def shard_units(self) -> Iterator[nn.Module]:
        """Parts that compute one after another, for sharded training."""
        yield from self.lmm.get_decoder().layers
        yield from self.masks.shard_units()


def _learns(module: nn.Module) -> bool:
    return any(weight.requires_grad for weight in module.parameters(recurse=False))
