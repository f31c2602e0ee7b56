"""Configuration keys of MGLMM beside the library's, and the model that they describe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode as CN

from mglmm.chat import Chat
from mglmm.extras import library
from mglmm.masks import MapMasks, MaskDecoder, QueryMasks, Sam2Masks, SamMasks
from mglmm.model import MGLMM
from mglmm.tokens import add_marks, grow_tables
from mglmm.toy.language import build_toy_language
from mglmm.tuning import Tuning, set_gradient_checkpointing, tune
from mglmm.vision import load_library_weights
from partglee import Vocabulary
from partglee.checkpoint import read_weights
from partglee.config import get_cfg, project_config
from partglee.config.values import BELOW_ONE, COUNT, FROM_ZERO, POSITIVE, Range, Words, check_values
from partglee.engine.image_input import ImageInput
from partglee.engine.pretrained import load_pretrained
from partglee.engine.weight_files import find_weights
from partglee.modeling import build_backbone, build_pixel_decoder

_HERE = Path(__file__).resolve().parent
CONFIGS = next((folder for folder in (_HERE / "configs", _HERE.parent / "configs") if folder.is_dir()), _HERE)
KINDS = ("sam", "sam2", "partglee", "maps")
_NOT_OURS = ("PRIOR_PROB", "EARLY_FUSION", "OBJECT_DECODER", "QFORMER", "PART_DECODER", "DENOISING", "TEXT")
TOY = "toy"


def mglmm_defaults() -> CN:
    """Every key with its default: the paper's, where it says one."""
    cfg = get_cfg()
    cfg.RECIPE = "mglmm"
    for key in _NOT_OURS:
        del cfg.MODEL[key]

    cfg.MODEL.LANGUAGE = CN()
    # Folder or hub name of an image-text-to-text model of transformers; "toy": a small one, described below
    cfg.MODEL.LANGUAGE.NAME = "llava-hf/llava-1.5-7b-hf"
    cfg.MODEL.LANGUAGE.CLASS = "AutoModelForImageTextToText"  # of transformers, by name
    cfg.MODEL.LANGUAGE.DTYPE = "bfloat16"  # of its weights
    cfg.MODEL.LANGUAGE.MAX_TOKENS = 1536  # of a conversation; 2048 for GCG
    cfg.MODEL.LANGUAGE.TOY = CN()  # Llama's form, LLaVA's projector, the library's backbone and pixel decoder
    cfg.MODEL.LANGUAGE.TOY.WIDTH = 192
    cfg.MODEL.LANGUAGE.TOY.NUM_LAYERS = 4
    cfg.MODEL.LANGUAGE.TOY.NUM_HEADS = 6
    cfg.MODEL.LANGUAGE.TOY.FFN_DIM = 512
    cfg.MODEL.LANGUAGE.TOY.SIZE = 128  # sides of the image
    cfg.MODEL.LANGUAGE.TOY.STRIDE = 16  # of its tokens
    cfg.MODEL.MASKS = CN()
    cfg.MODEL.MASKS.KIND = "sam"  # sam (paper) | sam2 | partglee: its queries | maps: a backbone and pixel decoder
    cfg.MODEL.MASKS.NAME = "facebook/sam-vit-huge"  # folder, hub name, or weights of PartGLEE; of maps nothing
    cfg.MODEL.MASKS.VOCABULARY = "partglee_tiny"  # partglee: names that queries are selected by
    cfg.MODEL.MASKS.NUM_LAYERS = 2  # maps: how often a prompt looks at the memory
    cfg.MODEL.MASKS.SIZE = 128  # maps, partglee: of the image's short side
    cfg.MODEL.START = ""  # toy and maps: weights of PartGLEE that backbone and pixel decoder start from
    cfg.MODEL.ACTIVATION = "relu"  # of the projection to prompts: relu (code) | gelu (paper)
    cfg.MODEL.TUNING = CN()
    cfg.MODEL.TUNING.MODE = "adapters"  # adapters | all
    cfg.MODEL.TUNING.RANK = 8
    cfg.MODEL.TUNING.ALPHA = 16.0
    cfg.MODEL.TUNING.DROPOUT = 0.05
    cfg.MODEL.TUNING.TARGETS = ["q_proj", "v_proj"]
    cfg.MODEL.TUNING.PROJECTOR = True
    cfg.MODEL.TUNING.MASKS = True
    cfg.MODEL.FEATURE_CACHE = ""  # folder for features of the frozen mask encoder
    cfg.MODEL.SIZE_DIVISIBILITY = 32

    cfg.CRITERION = CN()
    cfg.CRITERION.WEIGHT = CN()
    cfg.CRITERION.WEIGHT.CE = 1.0
    cfg.CRITERION.WEIGHT.BCE = 2.0
    cfg.CRITERION.WEIGHT.DICE = 0.5
    cfg.CRITERION.WEIGHT.CHOICE = 1.0  # partglee: of the queries themselves; not in the paper

    cfg.INPUT.TRAIN.MODE = "squash"  # nothing is cropped or flipped: sentences speak of left and right
    cfg.INPUT.TRAIN.FLIP = 0.0
    cfg.SOLVER.BASE_LR = 3e-4
    cfg.SOLVER.WEIGHT_DECAY = 0.0
    cfg.SOLVER.CLIP_GRADIENTS = 1.0
    cfg.SOLVER.WARMUP_ITERS = 100
    cfg.SOLVER.SCHEDULE = "cosine"  # paper: linear
    cfg.TEST.MAX_TOKENS = 512  # of an answer
    cfg.TEST.MAX_RECORDS = 0  # of each data set that are asked; 0 = all
    return cfg


RANGES: dict[str, Range] = {
    **dict.fromkeys(
        (
            "MODEL.LANGUAGE.MAX_TOKENS", "MODEL.LANGUAGE.TOY.WIDTH", "MODEL.LANGUAGE.TOY.NUM_LAYERS",
            "MODEL.LANGUAGE.TOY.NUM_HEADS", "MODEL.LANGUAGE.TOY.FFN_DIM", "MODEL.LANGUAGE.TOY.SIZE",
            "MODEL.LANGUAGE.TOY.STRIDE", "MODEL.MASKS.NUM_LAYERS", "MODEL.MASKS.SIZE", "MODEL.TUNING.RANK",
            "TEST.MAX_TOKENS",
        ),
        COUNT,
    ),
    **dict.fromkeys(
        ("CRITERION.WEIGHT.CE", "CRITERION.WEIGHT.BCE", "CRITERION.WEIGHT.DICE", "CRITERION.WEIGHT.CHOICE"), FROM_ZERO
    ),
    "TEST.MAX_RECORDS": FROM_ZERO,
    "MODEL.TUNING.ALPHA": POSITIVE,
    "MODEL.TUNING.DROPOUT": BELOW_ONE,
    "MODEL.MASKS.KIND": Words(KINDS),
    "MODEL.ACTIVATION": Words(("relu", "gelu")),
    "MODEL.TUNING.MODE": Words(("adapters", "all")),
    "MODEL.LANGUAGE.DTYPE": Words(("float32", "bfloat16", "float16")),
}  # fmt: skip
"""What MGLMM's keys may be."""


def load_config(name: str | Path, overrides: Sequence[Any] = ()) -> CN:
    """Defaults, then a YAML file or one of this project by name (`mglmm_toy`), then `KEY VALUE` pairs."""
    return project_config(name, overrides, folder=CONFIGS, defaults=mglmm_defaults)


def list_configs() -> list[str]:
    """Names that `load_config` knows."""
    return sorted(file.stem for file in CONFIGS.glob("[!_]*.yaml"))


def build_model(cfg: CN | str | Path) -> MGLMM:
    """The model of a configuration: its parts with the weights that they come with, tuning set up. `model.chat` reads
    its conversations.

    Raises:
        ValueError: for a value that its key may not have, a model that transformers does not load, or values that do
            not fit each other.
    """
    if not isinstance(cfg, CN):
        cfg = load_config(cfg)
    check_values(cfg, RANGES)
    m = cfg.MODEL
    lmm, processor = build_toy_language(cfg) if m.LANGUAGE.NAME == TOY else load_language(m.LANGUAGE)
    marks = add_marks(processor.tokenizer)
    grow_tables(lmm, processor.tokenizer)
    masks = build_masks(cfg)
    weights = {name.lower(): value for name, value in cfg.CRITERION.WEIGHT.items()}
    model = MGLMM(lmm=lmm, masks=masks, seg=marks.seg, activation=m.ACTIVATION, weights=weights)
    model.chat = Chat(processor=processor, max_tokens=min(m.LANGUAGE.MAX_TOKENS, model.context or 1 << 30))
    t = m.TUNING
    tune(
        model,
        Tuning(mode=t.MODE, rank=t.RANK, alpha=t.ALPHA, dropout=t.DROPOUT, targets=tuple(t.TARGETS),
               projector=t.PROJECTOR, masks=t.MASKS),
        marks.all,
    )  # fmt: skip
    model.fresh = _made_anew(cfg, model)
    if m.ACTIVATION_CHECKPOINTING:
        set_gradient_checkpointing(model, True)
    return model


def _made_anew(cfg: CN, model: MGLMM) -> tuple[str, ...]:
    """Beginnings of names of weights that no folder, hub or file of the configuration gives."""
    language = ("lmm.",) if cfg.MODEL.LANGUAGE.NAME == TOY else ()
    own = cfg.MODEL.MASKS.KIND in ("maps", "partglee")
    return (*language, *(f"masks.{name}" for name, _ in model.masks.learning() if own))


def load_language(said: CN) -> tuple[Any, Any]:
    """A model of transformers and its processor, from a folder or the hub."""
    t = library("transformers")
    kind = getattr(t, said.CLASS, None)
    if kind is None:
        raise ValueError(
            f"transformers {t.__version__} has no class {said.CLASS!r}; such as AutoModelForImageTextToText, "
            "LlavaForConditionalGeneration, Qwen2_5_VLForConditionalGeneration, InternVLForConditionalGeneration, "
            "SmolVLMForConditionalGeneration"
        )
    try:
        processor = t.AutoProcessor.from_pretrained(said.NAME)
        lmm = kind.from_pretrained(said.NAME, dtype=said.DTYPE)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ValueError(f"transformers does not load the language model {said.NAME!r}: {error}") from error
    if not hasattr(processor, "tokenizer"):
        raise ValueError(f"{said.NAME!r} comes with no processor of images and text, but {type(processor).__name__}")
    return lmm, processor


def build_masks(cfg: CN) -> MaskDecoder:
    """The mask decoder of `MODEL.MASKS`."""
    m = cfg.MODEL.MASKS
    if m.KIND in ("sam", "sam2"):
        t = library("transformers")
        try:
            sam = (t.SamModel if m.KIND == "sam" else t.Sam2Model).from_pretrained(m.NAME)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"transformers does not load the mask decoder {m.NAME!r}: {error}") from error
        return SamMasks(sam=sam) if m.KIND == "sam" else Sam2Masks(sam=sam)
    seen = ImageInput(short_side=m.SIZE, max_side=2 * m.SIZE)
    if m.KIND == "partglee":
        found = load_pretrained(m.NAME)
        return QueryMasks(model=found.model, vocabulary=Vocabulary.builtin(m.VOCABULARY), image_input=seen)
    backbone = build_backbone(cfg)
    decoder = MapMasks(
        backbone=backbone,
        pixel_decoder=build_pixel_decoder(cfg.MODEL, backbone.channels),
        image_input=seen,
        embed_dim=cfg.MODEL.EMBED_DIM,
        num_heads=cfg.MODEL.NUM_HEADS,
        ffn_dim=cfg.MODEL.FFN_DIM,
        num_layers=m.NUM_LAYERS,
        pixel_mean=tuple(cfg.MODEL.PIXEL_MEAN),
        pixel_std=tuple(cfg.MODEL.PIXEL_STD),
    )
    if cfg.MODEL.START:
        load_library_weights(decoder, read_weights(find_weights(cfg.MODEL.START)))
    return decoder
