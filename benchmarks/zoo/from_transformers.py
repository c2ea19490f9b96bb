"""transformers: vision, text, speech and both together, with random weights and small configurations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn import _torchvision
from zoo.network import Network

__all__ = ["networks"]

Options = dict[str, Any]
Inputs = Callable[[int], dict[str, Tensor]]

ENCODER: Options = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
PATCHES: Options = {**ENCODER, "image_size": 32, "patch_size": 8}
TEXT: Options = {**ENCODER, "vocab_size": 100, "max_position_embeddings": 64}
STAGES: Options = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "image_size": 32, "window_size": 4}
PYRAMID: Options = {"hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1]}


def pixels(size: int, n: int) -> dict[str, Tensor]:
    """Images."""
    return {"pixel_values": torch.rand(n, 3, size, size)}


def words(n: int) -> dict[str, Tensor]:
    """Texts of twelve tokens, the last ones of some masked."""
    mask = torch.ones(n, 12, dtype=torch.long)
    mask[1:, 9:] = 0
    return {"input_ids": torch.randint(3, 90, (n, 12)), "attention_mask": mask}


def few_words(n: int) -> dict[str, Tensor]:
    """As many tokens as texts, so that sizes do not tell the two dimensions apart."""
    return {"input_ids": torch.randint(3, 90, (n, n))}


def both(n: int) -> dict[str, Tensor]:
    """Images and texts."""
    return {**words(n), **pixels(32, n)}


def pair(n: int) -> dict[str, Tensor]:
    """Texts in and out."""
    return {**words(n), "decoder_input_ids": torch.randint(3, 90, (n, 7))}


def sound(n: int) -> dict[str, Tensor]:
    """Mono sound."""
    return {"input_values": torch.randn(n, 1600)}


SPEECH: Options = {**ENCODER,
    "conv_dim": [16, 16], "conv_kernel": [10, 4], "conv_stride": [5, 4], "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0}  # fmt: skip
TOWERS: Options = {"text_config": TEXT, "vision_config": PATCHES, "projection_dim": 16}
SEQUENCES: Options = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": 100,
    "max_position_embeddings": 64}  # fmt: skip

# prefix of the class names: task, options, inputs
VISION: dict[str, tuple[str, Options, Inputs]] = {
    "Beit": ("ForImageClassification", PATCHES, partial(pixels, 32)),
    "Bit": (
        "ForImageClassification",
        {"embedding_size": 16, **PYRAMID, "num_groups": 4},
        partial(pixels, 64),
    ),
    "ConvNext": ("ForImageClassification", PYRAMID, partial(pixels, 32)),
    "ConvNextV2": ("ForImageClassification", PYRAMID, partial(pixels, 32)),
    "DeiT": ("ForImageClassification", PATCHES, partial(pixels, 32)),
    "Dinov2": ("ForImageClassification", PATCHES, partial(pixels, 32)),
    "DPT": (
        "ForSemanticSegmentation",
        {
            **PATCHES,
            "num_hidden_layers": 4,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [16, 16, 16, 16],
            "fusion_hidden_size": 16,
        },
        partial(pixels, 32),
    ),
    "EfficientNet": (
        "ForImageClassification",
        {"width_coefficient": 0.25, "depth_coefficient": 0.2, "hidden_dim": 320},
        partial(pixels, 64),
    ),
    "FocalNet": (
        "ForImageClassification",
        {
            "embed_dim": 16,
            "depths": [1, 1],
            "hidden_sizes": [16, 32],
            "focal_levels": [1, 1],
            "focal_windows": [3, 3],
            "image_size": 32,
            "use_layerscale": True,
        },
        partial(pixels, 32),
    ),
    "Hiera": (
        "ForImageClassification",
        {"embed_dim": 16, "image_size": [32, 32], "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2]},
        partial(pixels, 32),
    ),
    "Levit": (
        "ForImageClassification",
        {
            "image_size": 64,
            "hidden_sizes": [32, 48, 64],
            "num_attention_heads": [2, 3, 4],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
        },
        partial(pixels, 64),
    ),
    "MobileNetV1": (
        "ForImageClassification",
        {"depth_multiplier": 0.25, "image_size": 64},
        partial(pixels, 64),
    ),
    "MobileNetV2": (
        "ForImageClassification",
        {"depth_multiplier": 0.35, "image_size": 64},
        partial(pixels, 64),
    ),
    "MobileViT": (
        "ForImageClassification",
        {"image_size": 64, "hidden_sizes": [24, 32, 40], "neck_hidden_sizes": [8, 8, 12, 16, 24, 32, 64]},
        partial(pixels, 64),
    ),
    "PoolFormer": ("ForImageClassification", PYRAMID, partial(pixels, 64)),
    "Pvt": (
        "ForImageClassification",
        {**PYRAMID, "image_size": 64, "num_attention_heads": [1, 2, 2, 4]},
        partial(pixels, 64),
    ),
    "RegNet": (
        "ForImageClassification",
        {"embedding_size": 16, **PYRAMID, "groups_width": 8},
        partial(pixels, 32),
    ),
    "ResNet": (
        "ForImageClassification",
        {"embedding_size": 16, **PYRAMID, "layer_type": "basic"},
        partial(pixels, 32),
    ),
    "Segformer": (
        "ForSemanticSegmentation",
        {
            "hidden_sizes": [16, 16, 32, 32],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 1, 2, 2],
            "decoder_hidden_size": 16,
        },
        partial(pixels, 64),
    ),
    "SwiftFormer": (
        "ForImageClassification",
        {"embed_dims": [16, 16, 32, 32], "depths": [1, 1, 1, 1]},
        partial(pixels, 64),
    ),
    "Swin": ("ForImageClassification", STAGES, partial(pixels, 32)),
    "Swinv2": ("ForImageClassification", STAGES, partial(pixels, 32)),
    "Swin2SR": (
        "ForImageSuperResolution",
        {
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [2, 2],
            "image_size": 32,
            "window_size": 4,
            "upscale": 2,
        },
        partial(pixels, 32),
    ),
    "ViT": ("ForImageClassification", PATCHES, partial(pixels, 32)),
    "ViTMSN": ("ForImageClassification", PATCHES, partial(pixels, 32)),
    "Yolos": (
        "ForObjectDetection",
        {**PATCHES, "image_size": [32, 32], "num_detection_tokens": 5},
        partial(pixels, 32),
    ),
}
TEXTS: dict[str, tuple[str, Options, Inputs]] = {
    "Albert": ("ForSequenceClassification", {**TEXT, "embedding_size": 16}, words),
    "Bart": ("ForConditionalGeneration", SEQUENCES, pair),
    "Bert": ("ForSequenceClassification", TEXT, words),
    "BigBird": ("ForSequenceClassification", {**TEXT, "attention_type": "original_full"}, words),
    "Bloom": ("ForCausalLM", {"vocab_size": 100, "hidden_size": 32, "n_layer": 2, "n_head": 4}, words),
    "DebertaV2": ("ForSequenceClassification", TEXT, words),
    "DistilBert": (
        "ForSequenceClassification",
        {"vocab_size": 100, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
        words,
    ),
    "Electra": ("ForSequenceClassification", {**TEXT, "embedding_size": 32}, words),
    "FNet": (
        "ForSequenceClassification",
        {**ENCODER, "vocab_size": 100, "max_position_embeddings": 64},
        lambda n: {"input_ids": words(n)["input_ids"]},
    ),
    "GPT2": (
        "LMHeadModel",
        {"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
        words,
    ),
    "Gemma": ("ForCausalLM", {**TEXT, "num_key_value_heads": 4, "head_dim": 8, "pad_token_id": 0}, words),
    "Llama": ("ForCausalLM", TEXT, words),
    "MobileBert": (
        "ForSequenceClassification",
        {**TEXT, "embedding_size": 32, "true_hidden_size": 32, "intra_bottleneck_size": 32},
        words,
    ),
    "OPT": (
        "ForCausalLM",
        {
            "vocab_size": 100,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 48,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 32,
        },
        words,
    ),
    "Roberta": ("ForSequenceClassification", {**TEXT, "pad_token_id": 1}, words),
    "SqueezeBert": ("ForSequenceClassification", {**TEXT, "embedding_size": 32}, words),
    "T5": (
        "ForConditionalGeneration",
        {"vocab_size": 100, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
        pair,
    ),
    "XLNet": (
        "ForSequenceClassification",
        {"vocab_size": 100, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
        words,
    ),
    "XLNet, as many tokens as texts": (
        "ForSequenceClassification",
        {"vocab_size": 100, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
        few_words,
    ),
}
MIXED: dict[str, tuple[str, Options, Inputs]] = {
    "CLIP": ("Model", TOWERS, both),
    "Data2VecAudio": (
        "ForSequenceClassification",
        {**SPEECH, "conv_pos_kernel_size": 3, "num_conv_pos_embeddings": 2},
        sound,
    ),
    "Hubert": ("ForSequenceClassification", SPEECH, sound),
    "Siglip": ("Model", {"text_config": {**TEXT, "projection_size": 32}, "vision_config": PATCHES}, both),
    "Vilt": ("Model", {**PATCHES, "vocab_size": 100, "max_position_embeddings": 64}, both),
    "Wav2Vec2": ("ForSequenceClassification", SPEECH, sound),
    "Wav2Vec2, layer norm": ("ForSequenceClassification", {**SPEECH, "feat_extract_norm": "layer"}, sound),
    "Whisper": (
        "Model",
        {
            **SEQUENCES,
            "num_mel_bins": 8,
            "max_source_positions": 16,
            "max_target_positions": 16,
            "pad_token_id": 0,
        },
        lambda n: {
            "input_features": torch.randn(n, 8, 32),
            "decoder_input_ids": torch.randint(3, 90, (n, 7)),
        },
    ),
}


def networks() -> Iterator[Network]:
    """Every network of transformers."""
    _torchvision.load()
    for kind, table in (("vision", VISION), ("text", TEXTS), ("sound and several", MIXED)):
        for name, (task, options, inputs) in table.items():
            if task:
                cls, comma, what = name.partition(",")
                yield Network(
                    f"transformers {kind}",
                    cls + task + comma + what,
                    partial(_build, cls, task, options),
                    inputs,
                )


def _build(name: str, task: str, options: Options) -> nn.Module:
    transformers = import_module("transformers")
    config = getattr(transformers, f"{name}Config")(**options)
    made: nn.Module = getattr(transformers, name + task)(config)
    return made
