"""Tiny random networks of ``transformers``, saved in folders as those of the hub are."""

import functools
import tempfile
from pathlib import Path
from typing import Any

import torch

from model.contract import FewShotMethod
from tests.parity.foundation import require_transformers

LAYERS = {"hidden_size": 32, "num_attention_heads": 2}
PART = {**LAYERS, "num_layers": 1, "intermediate_size": 64}
SAM3 = {
    "vision_config": {
        "backbone_config": {
            **LAYERS,
            **{"model_type": "sam3_vit_model", "intermediate_size": 64, "num_hidden_layers": 2, "image_size": 112},
            **{"patch_size": 14, "window_size": 4, "global_attn_indexes": [1], "pretrain_image_size": 56},
        },
        "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    },
    "text_config": {
        **LAYERS,
        **{"model_type": "clip_text_model", "vocab_size": 128, "intermediate_size": 64, "projection_dim": 16},
        **{"num_hidden_layers": 1, "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": 2},
        "pad_token_id": 0,
    },
    **dict.fromkeys(("geometry_encoder_config", "detr_encoder_config"), PART),
    "detr_decoder_config": {**PART, "num_queries": 8},
    "mask_decoder_config": {**LAYERS, "num_upsampling_stages": 3},
}
SAM = {
    "vision_config": {
        **LAYERS,
        **{"output_channels": 32, "num_hidden_layers": 1, "image_size": 64, "patch_size": 16, "window_size": 2},
        **{"global_attn_indexes": [0], "mlp_dim": 64, "num_pos_feats": 16},
    },
    "prompt_encoder_config": {"hidden_size": 32, "image_size": 64, "patch_size": 16, "mask_input_channels": 8},
    "mask_decoder_config": {**LAYERS, "num_hidden_layers": 1, "mlp_dim": 64, "iou_head_hidden_dim": 32},
}
DINO = {**LAYERS, "num_hidden_layers": 2, "mlp_ratio": 2, "image_size": 112, "patch_size": 14}
HIERA = {
    **{"model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1, "image_size": [64, 64]},
    **{"blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64], "global_attention_blocks": [3]},
    **{"num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [8, 4, 14, 7]},
}
SAM2 = {
    "vision_config": {
        **{"model_type": "sam2_vision_model", "backbone_config": HIERA, "backbone_channel_list": [64, 32, 16, 8]},
        **{"fpn_hidden_size": 128, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]},
    },
    "prompt_encoder_config": {"hidden_size": 128, "image_size": 64},
    "mask_decoder_config": {"hidden_size": 128, "mlp_dim": 64, "iou_head_hidden_dim": 32},
    **{"image_size": 64, "memory_attention_hidden_size": 128, "memory_attention_num_layers": 1},
    **{"memory_attention_feed_forward_hidden_size": 64, "memory_encoder_hidden_size": 128},
    **{"mask_downsampler_embed_dim": 128, "memory_fuser_embed_dim": 128, "memory_fuser_intermediate_dim": 128},
    **{"enable_occlusion_spatial_embedding": False, "enable_temporal_pos_encoding_for_object_pointers": False},
}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "Sam3Model": ("Sam3Config", SAM3),
    "SamModel": ("SamConfig", SAM),
    "Dinov2Model": ("Dinov2Config", DINO),
    "Sam2VideoModel": ("Sam2VideoConfig", SAM2),
}

NOISE = {"Sam2VideoModel": 0.1}  # of kernels; more would make its attention a choice, which rounding turns


@functools.cache
def _folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="networks-")


def built(kind: str) -> torch.nn.Module:
    """Return a network of a class of the package as it starts."""
    library, (config, values) = require_transformers(), CONFIGS[kind]
    return getattr(library, kind)(getattr(library, config)(**values))


@functools.cache
@torch.no_grad()
def saved(kind: str, seed: int = 0) -> str:
    """Return the folder of a network of a class of the package."""
    library = require_transformers()
    torch.manual_seed(seed)
    network = built(kind)
    for parameter in network.parameters():
        parameter += (NOISE.get(kind, 0.3) if parameter.ndim > 1 else 0.05) * torch.randn_like(
            parameter
        )  # far from a flat start
    folder = Path(_folder().name, f"{kind}_{seed}")
    library.logging.disable_progress_bar()
    network.save_pretrained(folder)
    return str(folder)


def networks_of(model_class: type[FewShotMethod], seed: int = 0) -> list[str]:
    """Return the folders of a method's networks; [] for a method without any."""
    return [saved(kind, seed) for kind in model_class.pretrained_parts if kind in CONFIGS]
