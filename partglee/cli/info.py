"""`partglee info`: models that are ready, versions, devices, the native op, the zoo."""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = ("torch", "torchvision", "timm", "open_clip_torch", "supervision", "accelerate", "safetensors")


def add_parser(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("info", help="models that are ready, versions, devices, the native op")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what can be used at once, then what a bug report needs, then what needs weights."""
    import torch

    from partglee import __version__
    from partglee.checkpoint.files import read_metadata
    from partglee.config import config_dir, list_models
    from partglee.engine.weight_files import find_weights, named_weights, weights_dir
    from partglee.ops import status

    ready = named_weights()
    print("ready (`partglee predict IMAGE --weights NAME`):")
    for name in ready:
        file = find_weights(name)
        print(f"  {name}: {file.stat().st_size / 2**20:.1f} MiB, {file}")
        if terms := read_metadata(file).get("terms"):
            print(f"    terms: {terms}")
    if not ready:
        print(f"  none; MODEL_ZOO.md says where weights are, and they are looked for in {weights_dir()}")
    print(f"\npartglee {__version__}, Python {platform.python_version()}, {platform.platform()}")
    print("packages:")
    for name in _PACKAGES:
        print(f"  {name} {_version(name)}")
    print(f"devices: cpu ({os.cpu_count()} cores, {torch.get_num_threads()} threads)", end="")
    for i in range(torch.cuda.device_count()):
        print(f", cuda:{i} {torch.cuda.get_device_name(i)}", end="")
    print("\ndeformable attention:")
    for key, value in status().items():
        print(f"  {key}: {value}")
    print(f"configurations ({config_dir()}), to train, or for weights of your own:")
    for model in list_models():
        print(f"  {model}" + (f": weights in {weights_dir()}" if model in ready else ""))
    return 0


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
