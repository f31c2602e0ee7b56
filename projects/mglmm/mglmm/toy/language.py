"""LLaVA's form in small: Llama of a few million weights, the library's backbone and pixel decoder as its eyes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode as CN

from mglmm.extras import library
from mglmm.vision import load_library_weights, tower_classes
from partglee.checkpoint import read_weights
from partglee.engine.weight_files import find_weights

TOKENIZER = Path(__file__).parent / "tokenizer.json"
IMAGE = "<image>"
TEMPLATE = (
    "{% for m in messages %}{{ 'USER' if m['role'] == 'user' else 'ASSISTANT' }}:{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %} {{ c['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def toy_tokenizer(file: str | Path = TOKENIZER) -> Any:
    """The tokenizer of the toy captions (`python -m mglmm.toy.tokenizer` makes it)."""
    t = library("transformers")
    made = library("tokenizers").Tokenizer.from_file(str(file))
    return t.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens={"image_token": IMAGE},
    )  # fmt: skip


def build_toy_language(cfg: CN) -> tuple[Any, Any]:
    """The model and its processor, with fresh weights but for what `MODEL.START` gives its eyes."""
    t = library("transformers")
    m, toy = cfg.MODEL, cfg.MODEL.LANGUAGE.TOY
    if toy.SIZE % toy.STRIDE:
        raise ValueError(f"MODEL.LANGUAGE.TOY.SIZE {toy.SIZE} must be a multiple of its STRIDE {toy.STRIDE}")
    tokenizer = toy_tokenizer()
    eyes, _ = tower_classes()
    settings = CN({"MODEL": m.clone()})
    del settings.MODEL["LANGUAGE"], settings.MODEL["MASKS"]
    config = t.LlavaConfig(
        vision_config=eyes(settings=settings.dump(), stride=toy.STRIDE, hidden_size=m.EMBED_DIM),
        text_config=t.LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=toy.WIDTH, intermediate_size=toy.FFN_DIM,
            num_hidden_layers=toy.NUM_LAYERS, num_attention_heads=toy.NUM_HEADS, num_key_value_heads=toy.NUM_HEADS,
            max_position_embeddings=1024, pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE), vision_feature_layer=-1,
        vision_feature_select_strategy="full", image_seq_length=(toy.SIZE // toy.STRIDE) ** 2,
    )  # fmt: skip
    lmm = t.LlavaForConditionalGeneration(config)
    if m.START:
        load_library_weights(lmm.model.vision_tower.tower, read_weights(find_weights(m.START)))
    return lmm, toy_processor(tokenizer, size=toy.SIZE, stride=toy.STRIDE, cfg=cfg)


def toy_processor(tokenizer: Any, *, size: int, stride: int, cfg: CN) -> Any:
    """Images squashed to one size, and one token for each `stride` pixels."""
    t = library("transformers")
    images = t.CLIPImageProcessor(
        size={"height": size, "width": size}, do_center_crop=False,
        image_mean=[value / 255 for value in cfg.MODEL.PIXEL_MEAN],
        image_std=[value / 255 for value in cfg.MODEL.PIXEL_STD],
    )  # fmt: skip
    return t.LlavaProcessor(
        image_processor=images, tokenizer=tokenizer, patch_size=stride, vision_feature_select_strategy="full",
        num_additional_image_tokens=0, chat_template=TEMPLATE,
    )  # fmt: skip
