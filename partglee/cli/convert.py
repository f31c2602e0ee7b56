"""`partglee convert`: released weights to our format."""

from __future__ import annotations

import argparse
from typing import Any

from partglee.cli.arguments import add_import

_SHOWN = 8


def add_parser(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("convert", help="convert released PartGLEE, GLEE or MaskDINO weights")
    parser.add_argument(
        "--from", dest="source", required=True, metavar="NAME",
        help="what wrote them: partglee, glee, maskdino, detectron2 (its trainer, of this model), or a form that the "
        "recipe of a project converts",
    )  # fmt: skip
    parser.add_argument(
        "--config-file", metavar="FILE",
        help="configuration that they are for, which the new file then says; default: the zoo's that fits",
    )  # fmt: skip
    parser.add_argument("input", metavar="IN", help=".pth or .safetensors file")
    parser.add_argument("output", metavar="OUT.safetensors")
    add_import(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Convert, and say which of our parameters the file does not have: status 1 when it should have them."""
    import torch

    from partglee.basics.names import nearest
    from partglee.checkpoint import read_weights, write_weights
    from partglee.checkpoint.convert import check_fit
    from partglee.config import config_from_text, load_config
    from partglee.engine.recipe import converters
    from partglee.engine.weight_files import CONFIG_NAME, CONFIG_TEXT

    recipes = converters()
    if arguments.source not in recipes:
        raise ValueError(
            f"--from {arguments.source}: no recipe converts it{nearest(arguments.source, recipes) or ';'} there are "
            f"{', '.join(recipes)}; a project's are known with --import PROJECT"
        )
    recipe = recipes[arguments.source]
    file = arguments.config_file
    cfg = None if file is None else load_config(file, defaults=recipe.defaults)
    state, report = recipe.convert[arguments.source](read_weights(arguments.input))
    metadata = {"partglee_source": arguments.source}
    if cfg is not None:
        metadata[CONFIG_TEXT] = cfg.dump()
    elif report.config_text:
        metadata[CONFIG_TEXT], file = report.config_text, "the configuration that the weights say"
        cfg = config_from_text(report.config_text, source=arguments.input, defaults=recipe.defaults)
    elif report.config:
        metadata[CONFIG_NAME], file = report.config, report.config
        cfg = load_config(report.config, defaults=recipe.defaults)
    ours: dict[str, torch.Tensor] = {}
    if cfg is not None:
        with torch.device("meta"):
            ours = recipe.build_model(cfg).state_dict()
    needed = check_fit(state, ours, report)  # before anything is written
    write_weights(state, arguments.output, metadata)
    print(report)
    print(f"wrote {arguments.output}")
    if cfg is None:
        return 0
    absent = sorted(set(ours) - set(state) - set(needed))
    if needed:
        more = " ..." if len(needed) > _SHOWN else ""
        print(f"does not fit {file}: {len(needed)} parameters are missing: {', '.join(needed[:_SHOWN])}{more}")
    elif absent:
        groups = sorted({key.split(".")[0] for key in absent})
        print(f"fits {file}, except {len(absent)} parameters that the source lacks ({', '.join(groups)})")
    else:
        print(f"fits {file}: every parameter is there")
    return 1 if needed else 0
