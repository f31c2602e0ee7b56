"""`partglee info`: versions, devices, the native op, the zoo."""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = ("torch", "torchvision", "timm", "open_clip_torch", "supervision", "accelerate", "safetensors")


def add_parser(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("info", help="versions, devices, the native op, the models")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what a bug report needs."""
    import torch

    from partglee import __version__
    from partglee.config import config_dir, list_models
    from partglee.engine.weight_files import weights_dir
    from partglee.ops import status

    print(f"partglee {__version__}, Python {platform.python_version()}, {platform.platform()}")
    print("packages:")
    for name in _PACKAGES:
        print(f"  {name} {_version(name)}")
    print(f"devices: cpu ({os.cpu_count()} cores, {torch.get_num_threads()} threads)", end="")
    for i in range(torch.cuda.device_count()):
        print(f", cuda:{i} {torch.cuda.get_device_name(i)}", end="")
    print("\ndeformable attention:")
    for key, value in status().items():
        print(f"  {key}: {value}")
    print(f"models ({config_dir()}):")
    for model in list_models():
        file = weights_dir() / f"{model}.safetensors"
        print(f"  {model}: {'weights in ' + str(file) if file.is_file() else 'no weights in ' + str(weights_dir())}")
    return 0


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
