"""Convert released PartGLEE, GLEE and MaskDINO checkpoints to our key format."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from partglee.checkpoint.files import CONFIG_NAME, read_weights, write_weights
from partglee.checkpoint.rules import ABSENT, PREFIXES, RULES, Rule

SOURCES = tuple(RULES)


@dataclass
class ConversionReport:
    """What a conversion did. `str()` of it is for people."""

    source: str
    converted: int = 0  # keys of the source that live on
    dropped: Counter[str] = field(default_factory=Counter)  # reason -> keys
    aliases: int = 0  # further names of a tensor already converted, checked for equality
    unknown: list[str] = field(default_factory=list)  # keys that no rule knows
    config: str | None = None  # the zoo's configuration that the weights fit
    config_text: str | None = None  # the configuration that they say themselves, as YAML
    absent: tuple[str, ...] = ()  # patterns of our keys that no weights of the source have

    def __str__(self) -> str:
        lines = [f"{self.source}: converted {self.converted} keys, checked {self.aliases} aliases"]
        lines += [f"  dropped {count}: {why}" for why, count in self.dropped.most_common()]
        if self.unknown:
            lines.append(f"  unknown, left out {len(self.unknown)}: {', '.join(self.unknown[:8])}")
        return "\n".join(lines)


def convert_state_dict(state: Mapping[str, Tensor], source: str) -> tuple[dict[str, Tensor], ConversionReport]:
    """Rename, merge, duplicate and drop keys.

    Args:
        state: upstream keys, with or without the `partglee.` / `glee.` prefix.
        source: `partglee`, `glee` or `maskdino`.

    Raises:
        ValueError: for an unknown source, a state dict of another program, names of one tensor that differ, or a
            MaskDINO checkpoint whose levels run the other way.
    """
    if source not in RULES:
        raise ValueError(f"source must be one of {', '.join(SOURCES)}, got {source!r}")
    out, report = apply_rules(state, RULES[source], source=source, prefixes=PREFIXES[source])
    _check(out, report)
    report.config = _fitting_config(out)
    report.absent = ABSENT[source]
    return out, report


def check_fit(state: Mapping[str, Tensor], ours: Mapping[str, Tensor], report: ConversionReport) -> list[str]:
    """Whether converted weights are those of a model.

    Args:
        state: converted.
        ours: of the model; shapes alone are read.
        report: of the conversion.

    Returns:
        Keys of the model that the weights lack and should have; what the source never has is not among them.

    Raises:
        ValueError: for a tensor of another shape, or with a value that is not finite.
    """
    for key, value in state.items():
        if key in ours and ours[key].shape != value.shape:
            raise ValueError(
                f"{key} is {tuple(value.shape)}, the configuration's {tuple(ours[key].shape)}; the weights belong to "
                "another one, or are damaged"
            )
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"{key} holds NaN or infinite values; the file is damaged, or its training diverged")
    expected = (key for key in ours if not any(re.match(pattern, key) for pattern in report.absent))
    return sorted(key for key in expected if key not in state)


def apply_rules(
    state: Mapping[str, Tensor], rules: Sequence[Rule], *, source: str, prefixes: Sequence[str] = ()
) -> tuple[dict[str, Tensor], ConversionReport]:
    """Rename, merge, duplicate and drop keys by any list of rules; the first that matches decides.

    Args:
        source: the program that wrote the weights, for the report.
        prefixes: taken off every key, in this order, where they are there.

    Raises:
        ValueError: for names of one tensor that differ, or a piece of a merged tensor that is missing.
    """
    report = ConversionReport(source)
    out: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    pieces: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, value in state.items():
        short = _strip(key, prefixes)
        rule, match = _find(short, rules)
        if rule is None or match is None:
            report.unknown.append(key)
            continue
        if not rule.names:
            report.dropped[rule.why] += 1
            continue
        aliased = False
        for template in rule.names:
            name = _expand(match, template)
            piece = re.fullmatch(r"(.+)\[([qkv])\]", name)
            if piece:
                pieces[piece[1]][piece[2]] = value
                continue
            if name in out:
                aliased = True
                if not torch.equal(out[name], value):
                    raise ValueError(
                        f"{key} and {origin[name]} are two names of one tensor but differ; the checkpoint is damaged "
                        "or not from the code it claims"
                    )
                continue
            # A predictor that feeds both levels is copied, so that the two can be trained apart.
            out[name], origin[name] = value, key
        report.aliases += aliased
        report.converted += not aliased
    for name, parts in pieces.items():
        lacking = [p for p in "qkv" if p not in parts]
        if lacking:
            raise ValueError(f"the text tower's attention lacks {', '.join(f'{p}_proj' for p in lacking)} for {name}")
        out[name] = torch.cat([parts[p] for p in "qkv"])
    return out, report


def convert_checkpoint(source_file: str | Path, target_file: str | Path, *, source: str) -> ConversionReport:
    """Convert a file to a `.safetensors` file, which appears whole or not at all."""
    state, report = convert_state_dict(read_weights(source_file), source)
    metadata = {"partglee_source": source}
    if report.config:
        metadata[CONFIG_NAME] = report.config
    write_weights(state, target_file, metadata)
    return report


def _strip(key: str, prefixes: Sequence[str]) -> str:
    for prefix in prefixes:
        key = key.removeprefix(prefix)
    return key


def _find(key: str, rules: Sequence[Rule]) -> tuple[Rule | None, re.Match[str] | None]:
    for rule in rules:
        match = rule.pattern.fullmatch(key)
        if match:
            return rule, match
    return None, None


def _expand(match: re.Match[str], template: str) -> str:
    """`match.expand`, then `{3-1}` to `2`."""
    name = match.expand(template)
    return re.sub(r"\{(\d+)([+-])1\}", lambda m: str(int(m[1]) + (1 if m[2] == "+" else -1)), name)


def _check(out: Mapping[str, Tensor], report: ConversionReport) -> None:
    if not any(k.startswith("pixel_decoder.") for k in out):
        shown = ", ".join(report.unknown[:3]) or "none"
        raise ValueError(
            f"these are no {report.source} weights: no key of its pixel decoder was found (some keys: {shown}); "
            f"choose another --from ({', '.join(SOURCES)}) or check the file"
        )
    lost = [k for k in report.unknown if "predictor." in k]
    if lost:
        other = "glee" if report.source == "partglee" else "partglee"
        raise ValueError(f"--from {report.source} does not know {lost[0]} ({len(lost)} such keys); try --from {other}")
    finest, coarsest = (out.get(f"pixel_decoder.input_proj.{i}.conv.weight") for i in (0, 2))
    if finest is not None and coarsest is not None and finest.shape[1] > coarsest.shape[1]:
        raise ValueError(
            "this checkpoint orders its feature levels high2low; only low2high ones can be converted "
            "(MaskDINO's `hid2048_3sd1` instance checkpoints)"
        )


def _fitting_config(out: Mapping[str, Tensor]) -> str | None:
    """The zoo's name for the architecture, told by its backbone."""
    if "backbone.body.layer1.0.conv1.weight" in out and "backbone.body.layer3.5.conv1.weight" in out:
        return "inference_r50"
    patch = out.get("backbone.body.patch_embed.proj.weight")
    return "inference_swinL" if patch is not None and patch.shape[0] == 192 else None
