"""The registry of encoders: each builds with each of its stems, works on the declared grid, and methods name theirs."""

import pytest
import torch

from model.encoders.encoder import Encoder
from model.encoders.registry import build, encoders, title_of
from model.encoders.settings import EncoderSettings
from model.encoders.timm_facts import pretraining_of_tag
from model.registry import methods
from tests.helpers.read import config_of
from tests.helpers.skip_init import skip_init
from util.files.errors import UserError
from util.weights.sources import download, release


@pytest.mark.parametrize("name", [name for name in encoders() if name != "resnet101"])  # as resnet50, deeper
def test_an_encoder_works_on_the_grid_that_its_spec_declares(name: str) -> None:
    spec = encoders()[name]
    for stem in spec.stems:
        with torch.device("meta"), skip_init():
            encoder = build(name, stem)
            for size in spec.sides or (33, 41, 473):
                features = encoder(torch.empty(1, 3, size, size))
                assert features.stage[3].shape == (1, encoder.channels[3], *[EncoderSettings(name).grid(size)] * 2)
        assert isinstance(encoder, spec.family)
        check_places(encoder)


def check_places(encoder: Encoder) -> None:
    """Assert that each tensor that a file of weights may hold is of a stage, or is declared as of none."""
    for name in encoder.state_dict().keys() - encoder.constants:
        assert encoder.stage_of(name) <= encoder.last_stage


@pytest.mark.parametrize("name", ["timm/test_resnet", "timm/test_vit"])
def test_a_timm_network_declares_its_parts_outside_the_stages(name: str) -> None:
    with torch.device("meta"):
        check_places(build(name, "plain"))


def test_a_stride_without_one_grid_is_refused_where_it_is_needed() -> None:
    problems = {(name, stride): problem_at(name, stride) for name in ("bam", "hsnet") for stride in (None, 8, 32)}
    refused = {key: problem for key, problem in problems.items() if problem is not None}
    assert refused.keys() == {("bam", 32), ("hsnet", 8)}
    key, message = refused["hsnet", 8]
    assert key == "output_stride" and message.endswith(
        "ResNet-10 offers stages 2, 3 and 4 at strides 8, 8 and 8; take 32"
    )


def problem_at(name: str, stride: int | None) -> tuple[str, str] | None:
    method = methods()[name]
    return method.encoder_problem(method.Settings(encoder=EncoderSettings("resnet10", output_stride=stride)))


def test_titles_are_distinct_and_an_unknown_encoder_keeps_its_name() -> None:
    assert len({title_of(name) for name in encoders()}) == len(encoders())
    known = {None: "", "toy": "toy", "resnet50": "ResNet-50", "timm/regnety_002": "regnety_002"}
    known["timm/vit_base_patch16_dinov3.lvd1689m"] = "DINOv3 ViT-B/16"
    assert {name: title_of(name) for name in known} == known


def address_of(backbone: str, source: str = "torchvision") -> str:
    return release(source, encoders()[backbone].torchvision).url


def test_weights_to_download_have_an_address() -> None:
    published = {name for name, spec in encoders().items() if spec.torchvision is not None}
    assert published == encoders().keys() - {"resnet10", "resnet10_narrow", "swin_b"}
    assert all(map(address_of, published))


TAGS = {
    "resnet50.a1_in1k": ["ImageNet-1k"],
    "tf_efficientnet_b0.ns_jft_in1k": ["JFT-300M", "ImageNet-1k"],
    "regnety_320.seer_ft_in1k": ["Instagram-1B", "ImageNet-1k"],
    "regnety_320.seer": ["Instagram-1B", "self-supervised"],
    "hgnet_base.ssld_in1k": ["ImageNet-1k"],  # distilled with labels
    "eva02_base_patch14_224.mim_in22k": ["ImageNet-22k", "self-supervised"],
    "vit_base_patch16_clip_224.openai_ft_in1k": ["image-text pairs (CLIP)", "ImageNet-1k"],
    "samvit_base_patch16.sa1b": ["SA-1B (SAM)"],
    "resnet50.bamboo": [],
}


def test_a_tag_of_timm_gives_the_pretraining_data() -> None:
    for name, data in TAGS.items():
        assert sorted((pretraining_of_tag(*name.split(".")) or "").split(", ")) == sorted(data or [""]), name


def test_torchvisions_two_releases_of_weights_have_names() -> None:
    assert address_of("resnet50").endswith("resnet50-0676ba61.pth")  # IMAGENET1K_V1
    assert address_of("resnet50", "torchvision_v2").endswith("resnet50-11ad3fa6.pth")  # IMAGENET1K_V2
    config = config_of("split0", "deepglobe", "abcdfss", "resnet50")
    assert config.model.encoder.weights == "torchvision_v2"  # as published
    for backbone in ("resnet18", "swin_b"):
        with pytest.raises(UserError, match=f"torchvision_v2: it has no weights of {backbone}"):
            download("torchvision_v2", backbone, encoders()[backbone].torchvision, "key")
