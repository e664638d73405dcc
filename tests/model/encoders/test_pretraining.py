"""The data of timm's weights, from their tags."""

import pytest

from model.encoders.timm_facts import pretraining_of_tag


@pytest.mark.parametrize(
    ("architecture", "tag", "data"),
    [
        ("resnet50", "a1_in1k", "ImageNet-1k"),
        ("tf_efficientnet_b0", "ns_jft_in1k", "JFT-300M, ImageNet-1k"),
        ("regnety_160", "swag_lc_in1k", "Instagram-3.6B, ImageNet-1k"),
        ("regnety_320", "seer_ft_in1k", "Instagram-1B, ImageNet-1k"),
        ("regnety_320", "seer", "Instagram-1B, self-supervised"),
        ("hgnet_base", "ssld_in1k", "ImageNet-1k"),  # distilled with labels
        ("eva02_large_patch14_448", "mim_m38m_ft_in1k", "Merged-38M, ImageNet-1k"),
        ("eva02_base_patch14_224", "mim_in22k", "ImageNet-22k, self-supervised"),
        ("vit_base_patch16_clip_224", "openai_ft_in1k", "image-text pairs (CLIP), ImageNet-1k"),
        ("samvit_base_patch16", "sa1b", "SA-1B (SAM)"),
        ("resnet50", "bamboo", None),
    ],
)
def test_data_of_a_tag(architecture: str, tag: str, data: str | None) -> None:
    found = pretraining_of_tag(architecture, tag)
    assert (found and set(found.split(", "))) == (data and set(data.split(", ")))
