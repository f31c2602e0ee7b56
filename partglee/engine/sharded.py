"""Weights, gradients and moments spread over the processes (FSDP): `SOLVER.SHARDED`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard


class ShardedWeights:
    """The weights of a step, spread in place; each unit is put together while it computes.

    Args:
        model: the model inside the step. Its method `shard_units()` gives the modules that are spread each by itself,
            in the order in which they compute; a model without it is one unit.
        step: on its device; build the optimiser afterwards, over the parameters that are spread then.
    """

    def __init__(self, model: nn.Module, step: nn.Module) -> None:
        self.model = model
        # A number without dimensions cannot be spread: it computes as a vector of one, and is saved as it was.
        self._scalars = [name for name, parameter in self.model.named_parameters() if parameter.ndim == 0]
        for name in self._scalars:
            owner, _, own = name.rpartition(".")
            module = self.model.get_submodule(owner)
            scalar = module.get_parameter(own)
            setattr(module, own, nn.Parameter(scalar.detach().view(1), requires_grad=scalar.requires_grad))
        units: Callable[[], Iterable[nn.Module]] = getattr(model, "shard_units", tuple)
        for unit in units():
            fully_shard(unit)
        fully_shard(step)

    def states(self, optimizer: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """State dicts of model and optimiser put together on the CPU of the first process, empty on the others.

        The optimiser's goes by parameter name. Every process must call this.
        """
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights, moments = get_state_dict(self.model, optimizer, options=options)
        whole = cast(dict[str, Tensor], weights)  # of a model there is nothing else
        return {name: w.view(()) if name in self._scalars else w for name, w in whole.items()}, moments

    def load(self, optimizer: Any, weights: Mapping[str, Tensor], moments: Mapping[str, Any]) -> None:
        """Take up what `states` gave the first process; every process must call this with the same states."""
        whole: dict[str, Any] = {name: w.view(1) if name in self._scalars else w for name, w in weights.items()}
        own = self.model.state_dict().keys()
        if own != whole.keys():
            raise ValueError(f"the weights differ in {sorted(own ^ whole.keys())[:3]}")
        # Not strict: a parameter that no loss has reached yet has no moments.
        options = StateDictOptions(full_state_dict=True, strict=False)
        set_state_dict(
            self.model, optimizer, model_state_dict=dict(whole), optim_state_dict=dict(moments), options=options
        )
