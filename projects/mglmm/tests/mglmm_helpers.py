"""Random tiny models of every family, with tokenizers and processors of their own: no download, no meaning."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from mglmm import SegCap, load_config
from mglmm.chat import Chat, Conversation, Turn
from mglmm.extras import library
from mglmm.masks import MaskDecoder, Sam2Masks, SamMasks
from mglmm.model import MGLMM
from mglmm.tokens import add_marks, grow_tables

pytest.importorskip("transformers", minversion="5.20")  # what the extra `model` of the project brings
pytest.importorskip("peft")

SIDE = 64  # of mask decoders' images
SENTENCES = (
    "Describe the car in detail, with masks. The image shows a red car and a person on the left.",
    "Sure, it is the dog. Can you segment the wheel of the bicycle? Sorry, I do not see any in this image.",
)
TEMPLATE = (
    "{% for m in messages %}{{ m['role'].upper() }}: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE\n{% else %}{{ c['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FAMILIES = ("llava", "qwen2_5_vl", "internvl", "smolvlm")


def picture(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def tokenizer(extra: dict[str, str], *, more: tuple[str, ...] = (), vocab: int = 360) -> Any:
    """A byte-level tokenizer of its own words.

    Args:
        extra: named tokens, such as image_token.
        more: other special tokens.
    """
    tk = library("tokenizers")
    made = tk.Tokenizer(tk.models.BPE())
    made.pre_tokenizer = tk.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tk.decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<unk>", *extra.values(), *more]
    trainer = tk.trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=special, initial_alphabet=tk.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(SENTENCES, trainer)
    return library("transformers").PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>", extra_special_tokens=extra
    )


def _llava() -> tuple[Any, Any]:
    t = library("transformers")
    tok = tokenizer({"image_token": "<image>"})
    processor = t.LlavaProcessor(
        image_processor=t.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer=tok, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    )  # fmt: skip
    config = t.LlavaConfig(
        vision_config=t.CLIPVisionConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=28,
            patch_size=14, projection_dim=32,
        ),
        text_config=t.LlamaConfig(**_text(len(tok))), image_token_id=tok.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    return t.LlavaForConditionalGeneration(config), processor


def _qwen2_5_vl() -> tuple[Any, Any]:
    t = library("transformers")
    names = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    more = ("<|vision_start|>", "<|vision_end|>", "<|im_start|>", "<|im_end|>")
    tok = tokenizer(names, more=more)
    processor = t.Qwen2_5_VLProcessor(
        image_processor=t.Qwen2VLImageProcessor(patch_size=14, merge_size=2, min_pixels=28 * 28, max_pixels=56 * 56),
        tokenizer=tok, video_processor=t.Qwen2VLVideoProcessor(patch_size=14, merge_size=2),
        chat_template=CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )  # fmt: skip
    ids = {key: tok.convert_tokens_to_ids(token) for key, token in zip(
        ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"),
        (*names.values(), *more[:2]), strict=True)}  # fmt: skip
    config = t.Qwen2_5_VLConfig(
        text_config={**_text(len(tok)), "rope_scaling": {"type": "default", "mrope_section": [1, 1, 2]},
                     "use_sliding_window": False},
        vision_config={"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32,
                       "patch_size": 14, "fullatt_block_indexes": [1], "window_size": 56},
        **ids,
    )  # fmt: skip
    return t.Qwen2_5_VLForConditionalGeneration(config), processor


def _internvl() -> tuple[Any, Any]:
    t = library("transformers")
    names = {
        "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }  # fmt: skip
    tok = tokenizer(names, more=("<|im_start|>", "<|im_end|>"))
    processor = t.InternVLProcessor(
        image_processor=t.GotOcr2ImageProcessor(size={"height": 28, "width": 28}, crop_to_patches=False), tokenizer=tok,
        video_processor=t.InternVLVideoProcessor(size={"height": 28, "width": 28}), image_seq_length=1,
        chat_template=CHATML.replace("IMAGE", "<IMG_CONTEXT>\n"),
    )  # fmt: skip
    config = t.InternVLConfig(
        text_config=t.Qwen2Config(**_text(len(tok)), use_sliding_window=False),
        vision_config=t.InternVLVisionConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=[28, 28],
            patch_size=[14, 14],
        ),
        image_token_id=tok.convert_tokens_to_ids("<IMG_CONTEXT>"), image_seq_length=1,
    )  # fmt: skip
    return t.InternVLForConditionalGeneration(config), processor


def _smolvlm() -> tuple[Any, Any]:
    t = library("transformers")
    names = {
        "image_token": "<image>", "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>", "end_of_utterance_token": "<end_of_utterance>",
    }  # fmt: skip
    tok = tokenizer(names)
    processor = t.Idefics3Processor(  # SmolVLM's own differs in videos alone, for which it asks for num2words
        image_processor=t.SmolVLMImageProcessor(size={"longest_edge": 28}, max_image_size={"longest_edge": 28},
                                                do_image_splitting=False),
        tokenizer=tok, image_seq_len=1,
        chat_template=TEMPLATE.replace("IMAGE", "<image>").replace("%} {%", "%}<end_of_utterance>{%"),
    )  # fmt: skip
    config = t.SmolVLMConfig(
        text_config=t.LlamaConfig(**_text(len(tok))),
        vision_config={"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "image_size": 28, "patch_size": 14},
        image_token_id=tok.convert_tokens_to_ids("<image>"), scale_factor=2, tie_word_embeddings=True,
    )  # fmt: skip
    return t.SmolVLMForConditionalGeneration(config), processor


def _text(vocab: int) -> dict[str, Any]:
    return {
        "vocab_size": vocab, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip


_MAKERS = {"llava": _llava, "qwen2_5_vl": _qwen2_5_vl, "internvl": _internvl, "smolvlm": _smolvlm}


def language(family: str = "llava", *, seed: int = 0) -> tuple[Any, Chat]:
    """A model with rows for the marks, in evaluation mode, and its chat."""
    torch.manual_seed(seed)
    lmm, processor = _MAKERS[family]()
    add_marks(processor.tokenizer)
    grow_tables(lmm, processor.tokenizer)
    with torch.no_grad():  # so that tokens differ and answers are not all alike
        for table in (lmm.get_input_embeddings(), lmm.get_output_embeddings()):
            table.weight.normal_(std=0.5)
    return lmm.eval(), Chat(processor=processor, max_tokens=512)


def sam(seed: int = 0) -> SamMasks:
    t = library("transformers")
    torch.manual_seed(seed)
    config = t.SamConfig(
        vision_config=t.SamVisionConfig(
            hidden_size=16, output_channels=16, num_hidden_layers=1, num_attention_heads=2, image_size=SIDE,
            patch_size=16, mlp_dim=32, num_pos_feats=8, window_size=2, global_attn_indexes=[0], initializer_range=0.02,
        ),
        prompt_encoder_config=t.SamPromptEncoderConfig(
            hidden_size=16, image_size=SIDE, patch_size=16, image_embedding_size=SIDE // 16
        ),
        mask_decoder_config=t.SamMaskDecoderConfig(
            hidden_size=16, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16
        ),
    )  # fmt: skip
    return SamMasks(sam=t.SamModel(config))


def sam2(seed: int = 0) -> Sam2Masks:
    t = library("transformers")
    torch.manual_seed(seed)
    backbone = t.Sam2HieraDetConfig(
        hidden_size=8, image_size=[SIDE, SIDE], blocks_per_stage=[1, 1, 1, 1], embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[4, 2, 2, 2], global_attention_blocks=[],
        window_positional_embedding_background_size=[2, 2],
    )  # fmt: skip
    config = t.Sam2Config(
        vision_config=t.Sam2VisionConfig(
            backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=32,
            backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        ),
        prompt_encoder_config=t.Sam2PromptEncoderConfig(hidden_size=32, image_size=SIDE, patch_size=16),
        mask_decoder_config=t.Sam2MaskDecoderConfig(
            hidden_size=32, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16
        ),
    )  # fmt: skip
    return Sam2Masks(sam=t.Sam2Model(config))


def whole(family: str = "llava", masks: MaskDecoder | None = None, *, seed: int = 0) -> tuple[MGLMM, Chat]:
    """The whole model, in evaluation mode."""
    lmm, chat = language(family, seed=seed)
    model = MGLMM(lmm=lmm, masks=masks if masks is not None else sam(seed), seg=chat.marks.seg)
    return model.eval(), chat


@cache
def talker() -> SegCap:
    """A tiny model that answers."""
    model, chat = whole()
    model.chat = chat
    return SegCap(model, load_config("mglmm_toy"))


def dialogues() -> tuple[Conversation, ...]:
    """One short, one of two turns with masks, one of several images."""
    user, model = "user", "assistant"
    return (
        Conversation(
            (Turn(user, "Segment the car.", 1), Turn(model, "It is <p> car </p> [SEG].")), (picture(),), "first"
        ),
        Conversation(
            (
                Turn(user, "Describe it with masks.", 1), Turn(model, "A <p> dog </p> [SEG] and <p> cat </p> [SEG]."),
                Turn(user, "And the wheel?"), Turn(model, "<p> wheel </p> [SEG]"),
            ),
            (picture(30, 70, 1),), "second",
        ),
        Conversation(
            (Turn(user, "Compare them.", 2), Turn(model, "Both are <p> red </p> [SEG].")),
            (picture(seed=2), picture(50, 50, 3)), "third",
        ),
    )  # fmt: skip
