"""The training loop: draw, forward, backward, clip, step, average; everything else is a hook."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm

from partglee.basics.processes import gather
from partglee.basics.signals import Terminated, asked, patience
from partglee.engine.ema import WeightAverage
from partglee.engine.failures import NonFiniteLoss, UnreadableImages, write_dump
from partglee.engine.optimizer import set_rates
from partglee.engine.schedule import Multiplier
from partglee.engine.sharded import ShardedWeights
from partglee.engine.step import Batch, Batches, StepOutput


@dataclass
class StepRecord:
    """What one optimiser step did, for logs."""

    terms: dict[str, Tensor] = field(default_factory=dict)  # mean over the step's passes of this process
    data_seconds: float = 0.0  # waiting for the loader
    seconds: float = 0.0  # all of it
    gradient_norm: float = 0.0  # before clipping; 0 where float16 is not clipped, which scales gradients
    rates: dict[str, float] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    skipped: str = ""  # why the weights were left alone


class Hook:
    """Called by `Trainer.train`; `trainer.iteration` counts the steps that are done."""

    def before_train(self, trainer: Trainer) -> None:
        """Before the first step."""

    def after_step(self, trainer: Trainer) -> None:
        """After each step; `trainer.record` says what it did."""

    def after_train(self, trainer: Trainer) -> None:
        """After the last step of a run that reached its end."""

    def on_warning(self, message: str) -> None:
        """Something was left out."""

    def on_stop(self, trainer: Trainer) -> None:
        """After the last step of a run that SIGTERM stops; every process is here."""

    def close(self) -> None:
        """At the end of the run, also of one that failed."""


class Trainer:
    """Trains one model.

    The random numbers of a step follow from seed, step and process alone, so a run that is resumed, or evaluated in
    between, takes the same steps.

    Args:
        accelerator: of `build_accelerator`; places the model, scales and averages gradients.
        step: prepared; `step(batch)` gives a `StepOutput`.
        model: the unwrapped model inside it.
        optimizer: prepared, over the model's parameters.
        schedule: factor of the base rates at each step.
        batches: makes the iterable of training batches from a given optimiser step on; it must not end.
        max_iter: optimiser steps of the whole run.
        accumulate: passes whose gradients are summed into one step.
        clip: largest norm of all gradients together; 0 = any.
        average: moving average of the weights.
        max_non_finite: steps with a non-finite loss or gradient that are skipped before the run stops.
        max_unreadable: images that could not be read before the run stops, over all processes; they are summed in
            every step.
        output_dir: where a batch with a non-finite loss is written.
        sharded: the weights, where they are spread over the processes.
    """

    def __init__(
        self,
        *,
        accelerator: Accelerator,
        step: torch.nn.Module,
        model: torch.nn.Module,
        optimizer: Any,
        schedule: Multiplier,
        batches: Batches,
        max_iter: int,
        output_dir: Path,
        accumulate: int = 1,
        clip: float = 0.0,
        average: WeightAverage | None = None,
        max_non_finite: int = 0,
        max_unreadable: int = 0,
        seed: int = 0,
        sharded: ShardedWeights | None = None,
        hooks: Sequence[Hook] = (),
    ) -> None:
        self.accelerator = accelerator
        self.step = step
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.batches = batches
        self.max_iter = max_iter
        self.output_dir = output_dir
        self.accumulate = accumulate
        self.clip = clip
        self.average = average
        self.max_non_finite = max_non_finite
        self.seed = seed
        self.sharded = sharded
        self.hooks = list(hooks)
        self.iteration = 0  # steps done
        self.counts: Counter[str] = Counter()  # reasons of skipped steps
        self.failures: list[str] = []  # what went wrong beside the training, such as an evaluation
        self.unreadable = UnreadableImages(limit=max_unreadable)
        self.record = StepRecord()
        self.stopped = 0  # processes that SIGTERM has come to
        self._parameters = [p for p in model.parameters() if p.requires_grad]

    def train(self) -> None:
        """Run from `iteration` to `max_iter`.

        Raises:
            NonFiniteLoss: when more steps than allowed were not finite.
            ValueError: when the loader ends, or more images than allowed cannot be read.
            Terminated: when SIGTERM came to any process, after the step and what `Hook.on_stop` does.
        """
        try:
            with patience():
                self._train()
        finally:
            for hook in self.hooks:
                hook.close()

    def _train(self) -> None:
        for hook in self.hooks:
            hook.before_train(self)
        self.step.train()
        stream = iter(self.batches(self.iteration))
        try:
            while self.iteration < self.max_iter:
                self.record = self.run_step(stream)
                self.iteration += 1
                for hook in self.hooks:
                    hook.after_step(self)
                if self.stopped:
                    raise Terminated
            for hook in self.hooks:
                hook.after_train(self)
        except Terminated:
            # In the middle of an evaluation several processes are at different places, and cannot save together.
            if self.stopped or self.accelerator.num_processes == 1:
                for hook in self.hooks:
                    hook.on_stop(self)
            raise
        finally:
            # An error keeps this frame, and with it the loader, whose workers would keep the process from ending.
            if isinstance(stream, Generator):
                stream.close()

    def run_step(self, stream: Iterator[Batch]) -> StepRecord:
        """One optimiser step, or the reason why the weights stay as they are."""
        start = time.perf_counter()
        seed_step(self.seed, self.iteration, self.accelerator.process_index)
        record = StepRecord(rates=self._set_rates())
        batches: list[Batch] = []
        outputs: list[StepOutput] = []
        for i in range(self.accumulate):
            waiting = time.perf_counter()
            batches.append(_next(stream))
            record.data_seconds += time.perf_counter() - waiting
            last = i == self.accumulate - 1
            with nullcontext() if last else self.accelerator.no_sync(self.step):
                with self.accelerator.autocast():
                    output = self.step(batches[-1])
                # A single process leaves out what would change nothing; several must all take part in the average.
                if output.terms or self.accelerator.num_processes > 1:
                    self.accelerator.backward(output.loss / self.accumulate)
            outputs.append(output)
        record.sources = tuple(batch.source for batch in batches)
        for output in outputs:
            for name, value in output.terms.items():
                record.terms[name] = record.terms.get(name, 0) + value / self.accumulate
        failed = self.unreadable.new_in(batches)
        lost = sum(not torch.isfinite(o.loss).item() for o in outputs)
        supervised = sum(bool(o.terms) for o in outputs)
        counts = [lost, supervised, len(failed), int(asked())]
        lost, supervised, unreadable, self.stopped = self._over_processes(counts)
        if unreadable:
            self._count_unreadable(failed)
        record.skipped = self._apply(lost, supervised, record)
        self.optimizer.zero_grad(set_to_none=True)
        if record.skipped:
            self.counts[record.skipped] += 1
            if record.skipped == "non-finite":
                self._tolerate(batches, outputs)
        record.seconds = time.perf_counter() - start
        return record

    def _apply(self, lost: int, supervised: int, record: StepRecord) -> str:
        """Change the weights, or say why not.

        Args:
            lost, supervised: passes without a finite loss, and with any, of all processes, which therefore agree.
        """
        if lost:
            return "non-finite"
        if not supervised:
            return "nothing supervised"
        # Overflow is how float16 finds its scale: the scaler skips such a step by itself.
        scaled = self.accelerator.scaler is not None
        if self.clip or not scaled:
            record.gradient_norm = self._gradient_norm()
            if not np.isfinite(record.gradient_norm) and not scaled:
                return "non-finite"
        self.optimizer.step()
        if self.accelerator.optimizer_step_was_skipped:
            return "float16 overflow"
        if self.average is not None:
            self.average.update()
        return ""

    def _gradient_norm(self) -> float:
        """Of all gradients together, over all processes, before they are clipped; one pass in any case."""
        if self.clip:
            norm = self.accelerator.clip_grad_norm_(self._parameters, self.clip)
        else:
            norm = get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def _count_unreadable(self, failed: dict[str, str]) -> None:
        told = self.unreadable.add(failed, processes=self.accelerator.num_processes)
        if self.accelerator.is_main_process:  # it speaks for all
            for message in told:
                for hook in self.hooks:
                    hook.on_warning(message)

    def _set_rates(self) -> dict[str, float]:
        set_rates(self.optimizer, self.schedule(self.iteration))
        return {group["name"]: group["lr"] for group in self.optimizer.param_groups}

    def _over_processes(self, counts: list[int]) -> list[int]:
        if self.accelerator.num_processes == 1:
            return counts
        return self.accelerator.reduce(torch.tensor(counts, device=self.accelerator.device)).tolist()

    def _tolerate(self, batches: Sequence[Batch], outputs: Sequence[Any]) -> None:
        bad = [b for b, o in zip(batches, outputs, strict=True) if not torch.isfinite(o.loss).item()]
        (lost,) = self._over_processes([len(bad)])
        error = NonFiniteLoss(f"step {self.iteration}: another process had a non-finite loss, and says more")
        if bad or not lost:  # where all losses are finite, the gradients of any process may have been the cause
            bad = bad or list(batches)
            losses = {name: float(value) for output in outputs for name, value in output.terms.items()}
            file = self.output_dir / f"non_finite_{self.iteration:07d}_{self.accelerator.process_index}.pt"
            write_dump(file, bad, losses=losses, iteration=self.iteration)
            error = NonFiniteLoss.of(bad, losses, iteration=self.iteration, file=file)
        told = [text for text in gather(str(error) if bad else "") if text]  # the first process speaks for all
        if told:
            more = f" ({len(told) - 1} other processes wrote dumps too)" if len(told) > 1 else ""
            error = NonFiniteLoss(told[0] + more)
        if self.counts["non-finite"] > self.max_non_finite:
            raise error
        for hook in self.hooks:
            hook.on_warning(f"skipped: {error}")


def seed_step(seed: int, step: int, process: int) -> None:
    """Seed python, numpy and torch from these three numbers."""
    words = np.random.SeedSequence([seed, step, process]).generate_state(2, np.uint32)
    random.seed(int(words[0]))
    np.random.seed(int(words[0]))
    torch.manual_seed((int(words[1]) << 32) | int(words[0]))


def _next(stream: Iterator[Batch]) -> Batch:
    try:
        return next(stream)
    except StopIteration:
        raise ValueError("the training loader ended; it must go on as long as it is asked") from None


def endless(batches: Iterable[Any], *, accumulate: int = 1) -> Batches:
    """A loader for `Trainer` that repeats a fixed list of batches, for tests and overfitting."""
    fixed = list(batches)

    def start(step: int) -> Iterator[Any]:
        position = step * accumulate
        while True:
            yield fixed[position % len(fixed)]
            position += 1

    return start
