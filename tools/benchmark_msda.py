"""Benchmark of `partglee_msda.patch()`: models of transformers with their own attention and with ours, in one run.

    python tools/benchmark_msda.py                       # the operator on enc4-b1, then six models, random weights
    python tools/benchmark_msda.py --models d_fine --size 640x640 --clock wall --threads 2

Needs transformers and projects/msda installed; nothing is downloaded. Each model has its published size. Theirs and
ours take turns, round by round, each sample after a call that is not counted; the first answers are compared. The ratio
is of medians. The default clock counts the processor's time of this process: a busy machine changes it less than wall
time.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from contextlib import nullcontext

import partglee_msda
import torch
from benchmark_ops import WORKLOADS, make_inputs, record, sample
from torch import Tensor, nn

from partglee.basics.arguments import ArgumentParser

FOUR_STAGES = ["stage1", "stage2", "stage3", "stage4"]


def deformable_detr() -> nn.Module:
    from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(out_features=FOUR_STAGES[1:])
    config = DeformableDetrConfig(use_timm_backbone=False, backbone=None, backbone_config=backbone)
    return DeformableDetrForObjectDetection(config)


def mask2former() -> nn.Module:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    return Mask2FormerForUniversalSegmentation(Mask2FormerConfig(backbone_config=SwinConfig(out_features=FOUR_STAGES)))


def grounding_dino() -> nn.Module:
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection, SwinConfig

    backbone = SwinConfig(window_size=7, out_features=FOUR_STAGES[1:])
    return GroundingDinoForObjectDetection(GroundingDinoConfig(backbone_config=backbone))


def rt_detr() -> nn.Module:
    from transformers import RTDetrConfig, RTDetrForObjectDetection

    return RTDetrForObjectDetection(RTDetrConfig())


def rt_detr_v2() -> nn.Module:
    from transformers import RTDetrV2Config, RTDetrV2ForObjectDetection

    return RTDetrV2ForObjectDetection(RTDetrV2Config())


def d_fine() -> nn.Module:
    from transformers import DFineConfig, DFineForObjectDetection

    return DFineForObjectDetection(DFineConfig(decoder_n_points=[3, 6, 3]))


MODELS: dict[str, Callable[[], nn.Module]] = {
    build.__name__: build for build in (deformable_detr, mask2former, grounding_dino, rt_detr, rt_detr_v2, d_fine)
}
ANSWERS = ("logits", "pred_boxes", "class_queries_logits", "masks_queries_logits")


def model_call(name: str, size: tuple[int, int], backward: bool) -> Callable[[], list[Tensor]]:
    """A call that gives what the model answers, after a backward pass through the sum of its squares if asked for.

    The weights of the attention, which transformers sets to zero, are random, so that locations differ.
    """
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for key, parameter in model.named_parameters():
        if "sampling_offsets.weight" in key or "attention_weights.weight" in key:
            nn.init.normal_(parameter, std=0.05)
    given = {"pixel_values": torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))}
    if name == "grounding_dino":
        given["input_ids"] = torch.tensor([[101, 4937, 1012, 3899, 1012, 102]])  # "cat. dog."

    def call() -> list[Tensor]:
        with torch.set_grad_enabled(backward):
            out = model(**given)
            answers = [out[key] for key in ANSWERS if out.get(key) is not None]
            if backward:
                model.zero_grad()
                torch.stack([part[part.isfinite()].square().mean() for part in answers]).sum().backward()
            return [part.detach() for part in answers]

    return call


def operator_call(workload: str, backward: bool) -> Callable[[], list[Tensor]]:
    """The attention layer of Deformable DETR without its projections, on a workload of benchmark_ops.py."""
    from transformers.models.deformable_detr.modeling_deformable_detr import MultiScaleDeformableAttention

    layer, inputs = MultiScaleDeformableAttention(), make_inputs(WORKLOADS[workload], 0)
    table = torch.tensor(inputs.shapes)
    starts = torch.cat([table.new_zeros(1), table.prod(1).cumsum(0)[:-1]])
    leaves = [tensor.requires_grad_(backward) for tensor in (inputs.value, inputs.locations, inputs.weights)]

    def call() -> list[Tensor]:
        with torch.set_grad_enabled(backward):
            out = layer(leaves[0], table, inputs.shapes, starts, leaves[1], leaves[2], 64)
            return [out.detach(), *(torch.autograd.grad(out.sum(), leaves) if backward else ())]

    return call


def furthest(theirs: list[Tensor], ours: list[Tensor]) -> float:
    """The largest difference of two answers in units of the largest value."""
    pairs = [(a[a.isfinite()], b[a.isfinite()]) for a, b in zip(theirs, ours, strict=True)]
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)


def compare(name: str, call: Callable[[], list[Tensor]], step: str, args: argparse.Namespace) -> str:
    """A row of the table."""
    ways = {"transformers": nullcontext, "partglee_msda": partglee_msda.patch}
    taken: dict[str, list[float]] = {way: [] for way in ways}
    answers: dict[str, list[Tensor]] = {}
    for way, context in ways.items():
        with context():
            answers[way] = call()
    difference = furthest(*answers.values())
    answers.clear()
    for _ in range(args.rounds):
        for way, context in ways.items():
            with context():
                taken[way].append(sample(call, args.seconds, args.tries, args.clock)[0])
    theirs, ours = (statistics.median(times) for times in taken.values())
    spreads = [f"{(max(times) - min(times)) / statistics.median(times):.0%}" for times in taken.values()]
    return (
        f"| {name} | {step} | {theirs * 1e3:.1f} | {spreads[0]} | {ours * 1e3:.1f} | {spreads[1]} "
        f"| {theirs / ours:.2f}x | {difference:.0e} |"
    )


def size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH such as 480x640, got {text!r}")
    return int(height), int(width)


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--workloads", nargs="*", choices=list(WORKLOADS), default=["enc4-b1"])
    parser.add_argument("--size", type=size, help="of the image; default 800x1066, and 640x640 for RT-DETR and D-FINE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.35, help="length of a sample, at least one call")
    parser.add_argument("--tries", type=int, default=8, help="wall clock: samples taken again while others are busy")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    import transformers

    for key, text in {**record(), "transformers": transformers.__version__, "clock": args.clock}.items():
        print(f"- {key}: {text}")
    print(f"- operator: {partglee_msda.status()['cpu path']}, {partglee_msda.status()['cpu instruction set']}\n")
    print("| what | pass | transformers ms | spread | partglee_msda ms | spread | ratio | difference |")
    print("|---|---|---|---|---|---|---|---|")
    for backward, step in ((False, "fwd"), (True, "fwd+bwd")):
        for workload in args.workloads:
            call = operator_call(workload, backward)
            print(compare(f"operator, {workload}", call, step, args), flush=True)
    for name in args.models:
        height, width = args.size or ((640, 640) if name in ("rt_detr", "rt_detr_v2", "d_fine") else (800, 1066))
        for backward, step in ((False, "fwd"), (True, "fwd+bwd")):
            call = model_call(name, (height, width), backward)
            print(compare(f"{name} {height}x{width}", call, step, args), flush=True)


if __name__ == "__main__":
    main()
