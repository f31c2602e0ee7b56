"""Print how far our outputs are from the upstream model's on the golden image, array by array.

Needs the folder with the golden numbers: `python tools/check_parity.py --golden DIR` (default: ../shared/golden).
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from partglee.basics.arguments import ArgumentParser
from partglee.checkpoint import convert_state_dict, load_weights
from partglee.modeling import PartGLEE, build_model
from partglee.ops.masks import mask_logits
from partglee.structures import Vocabulary

LIMITS = {"boxes": 5e-5}  # for every other array:
LIMIT = 1e-3


def golden_model(folder: Path, config: str = "joint_r50", keys: str = "upstream_keys_r50.json") -> PartGLEE:
    """The model with the golden weights, through the converter."""
    spec = importlib.util.spec_from_file_location("fill_weights", folder / "fill_weights.py")
    assert spec is not None and spec.loader is not None
    filler: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(filler)
    state, _ = convert_state_dict(filler.upstream_state_dict(keys), "partglee")
    model = build_model(config).eval()
    load_weights(model, state, verbose=False)
    return model


@torch.inference_mode()
def golden_arrays(model: PartGLEE, golden: Any) -> dict[str, Tensor]:
    """Our counterpart of every array in the golden file."""
    vocabulary = Vocabulary({"dog": ["head", "tail"], "person": ["arm", "lower leg"]})
    if [*vocabulary.object_prompts, *vocabulary.part_prompts] != list(golden["names"]):
        raise ValueError(f"the golden file has other names: {list(golden['names'])}")
    batch = model.batch([torch.from_numpy(golden["image"]).permute(2, 0, 1)])
    text = model.embed(vocabulary)
    features = model.backbone(batch.tensor)
    pixels = model.pixel_decoder(features, text.tokens, text.token_mask)
    output = model(batch, text)
    assert output.parts is not None
    sizes = pixels.level_sizes[::-1]
    levels = pixels.memory.split([h * w for h, w in pixels.level_sizes], dim=1)[::-1]
    arrays = {"res5": features[3][:, ::64], "mask_features": output.mask_features[:, ::16]}
    for i, (level, size) in enumerate(zip(levels, sizes, strict=True)):
        arrays[f"encoded_level{i}"] = level.transpose(1, 2).unflatten(2, size)[:, ::16]
    objects, parts = output.objects.layers[-1], output.parts.layers[-1]
    rows = output.parent[:, ::10]  # ten part queries of each parsed object, one after the other
    arrays["part_queries"] = model.qformer(output.objects.queries, rows).content[0].unflatten(0, (50, 10))
    for name, layer in (("object", objects), ("part", parts)):
        arrays[f"{name}_logits"], arrays[f"{name}_boxes"] = layer.logits, layer.boxes
        index = torch.from_numpy(golden[f"{name}_mask_index"])
        assert layer.mask_embed is not None
        arrays[f"{name}_masks"] = mask_logits(layer.mask_embed[0, index], output.mask_features[0])
    return arrays


def main() -> int:
    """Print the table; status 1 when a limit is passed."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--golden", type=Path, default=Path(__file__).resolve().parents[1].parent / "shared" / "golden")
    folder = parser.parse_args().golden
    if not (folder / "partglee_r50_upstream.npz").is_file():
        print(f"no golden numbers in {folder}; pass --golden DIR", file=sys.stderr)
        return 2
    golden = np.load(folder / "partglee_r50_upstream.npz")
    failed = False
    print(f"{'array':<16} {'shape':<20} {'largest value':>13} {'max abs diff':>13} {'limit':>9}")
    for name, ours in golden_arrays(golden_model(folder), golden).items():
        theirs = torch.from_numpy(golden[name])
        difference = float((ours.float() - theirs).abs().max())
        limit = LIMITS.get(name.split("_")[-1], LIMIT)
        failed |= not difference <= limit
        mark = "" if difference <= limit else "  FAILED"
        shape = "x".join(map(str, theirs.shape))
        print(f"{name:<16} {shape:<20} {float(theirs.abs().max()):>13.4f} {difference:>13.2e} {limit:>9.0e}{mark}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
