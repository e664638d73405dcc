"""Composed configs: a name of data set, fold, method and encoder stands for a config, whether or not it is a file."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from model.common.with_encoder import WithEncoder
from model.encoders.swin import SwinEncoder
from model.encoders.vgg import VGGEncoder
from tests.paths import REPOSITORY
from util.config.compose import config_path, encoders_of, experiments, methods, model_class
from util.config.read import read_config, to_dict
from util.errors import UserError

CONFIGS = REPOSITORY / "config"
METHODS = methods(CONFIGS)
OF_TIMM = {  # encoders of configs whose names are not their backbones'
    **{f"lite{i}": f"timm/tf_efficientnet_lite{i}" for i in range(3)},
    "dinov2_vits14": "timm/vit_small_patch14_dinov2.lvd142m",
    "dinov3_vitl16": "timm/vit_large_patch16_dinov3.lvd1689m",
}


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """Return a copy of ``config/`` without its split files: everything there is composed."""
    root = tmp_path / "config"
    shutil.copytree(CONFIGS, root, ignore=shutil.ignore_patterns("*_split*"))
    return root


@pytest.mark.parametrize("method", [m for m in METHODS if issubclass(model_class(CONFIGS, m), WithEncoder)])
def test_every_method_takes_every_encoder_that_it_can(method: str) -> None:
    taken = encoders_of(CONFIGS, method)
    assert {"resnet10", "resnet18", "resnet34", "resnet50", "resnet50_plain", "resnet101"} <= set(taken)
    families = model_class(CONFIGS, method).families
    assert ("swin_b" in taken, "vgg16" in taken) == (SwinEncoder in families, VGGEncoder in families)
    for encoder in taken:
        path = config_path("split2", "pascal", method, encoder)
        config = read_config(REPOSITORY / path)
        assert (config.run.name, config.data.fold, config.data.name) == (path.stem, 2, "pascal")
        backbone = str(config.model.backbone())
        assert encoder.startswith(backbone) or OF_TIMM[encoder] == backbone


SIDES = {"test_vit.r160_in1k": (97, 81, 80), "test_resnet": (96, 81, 81), "test_mambaout": (96, 96, 81)}


@pytest.mark.parametrize(("backbone", "sides"), [(f"timm/{name}", sides) for name, sides in SIDES.items()])
def test_a_network_of_timm_names_its_run_and_fits_its_sides(backbone: str, sides: tuple[int, ...]) -> None:
    for method, side in zip(("dcama", "ssp", "insid3"), sides):
        config = read_config(config_path("split1", "mini", method, backbone))
        assert config.run.name == f"mini_split1_{method}_{backbone.replace('/', '-')}"
        assert (config.model.backbone(), config.model.encoder.weights) == (backbone, "timm")
        assert config.data.size == side
    with pytest.raises(UserError, match=r"--set data.size=80: data.size = 80 is not "):
        read_config(config_path("split1", "mini", "ssp", backbone), ["data.size=80"])


def test_methods_on_a_network_of_timm_share_its_base_stage() -> None:
    paths = [config_path("split1", "mini", method, "timm/test_vit") for method in ("symnet_plus", "bam")]
    assert paths[0].stem == "mini_split1_timm-test_vit_plus"
    assert {read_config(path).run.base_folder for path in paths} == {"runs/mini_split1_timm-test_vit/base"}


def test_a_file_may_name_a_composition_or_lie_on_top_of_it(configs: Path) -> None:
    base = read_config(configs / "mini/mini_split2_ssp_lite0.yaml")
    (configs / "mini/mine.yaml").write_text("base: mini_split2_ssp_lite0.yaml\ndata: {shot: 5}")
    named = read_config(configs / "mini/mine.yaml")
    (configs / "mini/mini_split2_ssp_lite0.yaml").write_text("data: {shot: 5}")
    for config in (named, read_config(configs / "mini/mini_split2_ssp_lite0.yaml")):
        assert config.data == replace(base.data, shot=5) and config.meta_stage == base.meta_stage


def test_an_entry_that_can_never_count_is_refused(configs: Path) -> None:
    main = configs / "mini/mini.yaml"
    before = main.read_text().split("\nfor:")[0]
    wrong = {"{sspp: {data: {size: 81}}}": "'sspp' .*mean 'ssp'", "{ssp: 3}": "'ssp' must be a section"}
    for content, message in wrong.items():
        main.write_text(f"for: {content}\n{before}")
        with pytest.raises(UserError, match=f"mini.yaml:1: {message}"):
            read_config(configs / "mini/mini_split1_ssp_resnet18.yaml")


def test_a_data_set_of_one_file_composes(configs: Path) -> None:
    content = yaml.safe_load((configs / "mini/mini.yaml").read_text())
    content["data"]["name"] = "pets"
    del content["net"], content["for"]
    (configs / "pets").mkdir()
    (configs / "pets/pets.yaml").write_text(yaml.safe_dump(content))
    assert config_path("split1", "pets", root=configs) == configs / "pets/pets_split1_resnet50.yaml"
    for method in METHODS:
        cls, path = model_class(configs, method), config_path("split1", "pets", method, "resnet50_plain", configs)
        config = read_config(path, [f"data.size={cls.sizes_around(96, cls.Settings())[0]}"])
        assert config.data.text == ("names" if cls.reads_text else "none")
    assert {p.stem for p in experiments(configs)} >= {"pets_split3_ssp_resnet50", "mini_split0_resnet10"}
    content["data"] |= {"fold_rule": "lists", "folds": 1}
    (configs / "pets/pets.yaml").write_text(yaml.safe_dump(content))
    left = {p.stem for p in experiments(configs) if p.parent.name == "pets"}
    assert left >= {"pets_split0_ssp_resnet50"} and not left & {"pets_split0_bam_resnet50", "pets_split0_resnet50"}


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("split0", "pascal", "ssp", "vgg16"), ("SSP does not take", "it takes lite0, lite1, lite2, resnet10, ")),
        (("split0", "pascal", "sspp", None), ("sspp: no such method", "did you mean 'ssp'?")),
        (("split0", "pascal", None, "resnet51"), ("NET resnet51: no such encoder", "did you mean 'resnet50'?")),
        (("split0", "pascal", "ssp", "resnet50_plus"), ("NET resnet50_plus: no such encoder", "'resnet50_plain'?")),
        (("split0", "pascal", None, "test_vit.r160_in1k"), ("did you mean 'timm/test_vit.r160_in1k'?",)),
        (("split0", "mini", "ssp", "timm/test_vit2.r160"), ("SSP on", "knows no weights", "timm/test_vit2.r160_in1k")),
        (("split0", "mini", "hsnet", "timm/test_vit"), ("HSNet on timm/test_vit: it has one grid", "timm/resnet50")),
        (("split0", "pascall", None, None), ("config/pascall: no such data set", "did you mean 'pascal'?")),
    ],
)
def test_a_name_that_does_not_compose_is_refused_in_one_line(words: tuple, parts: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        config_path(*words)
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in parts), message


def test_a_fold_or_a_protocol_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"pascal_split9_resnet50.yaml: data.fold = 9 does not exist"):
        read_config(CONFIGS / "pascal/pascal_split9_resnet50.yaml")
    for method, protocol in (("bam", "gfss"), ("bcm", "symnet")):  # of the other kind
        with pytest.raises(UserError, match=rf"test.protocol = {protocol}: protocol {protocol} "):
            read_config(config_path("split0", "pascal", method, "resnet50"), [f"test.protocol={protocol}"])


def test_a_method_takes_no_key_of_the_one_whose_file_it_inherits(configs: Path) -> None:
    """BCM and DIaM inherit BAM's file; a key of BAM's own is none of theirs."""
    path = configs / "pascal/pascal_split0_bcm_resnet50.yaml"
    before, bam = read_config(path).model, configs / "model/bam.yaml"
    bam.write_text(bam.read_text().replace("  name: bam\n", "  name: bam\n  alpha: 0.5\n"))
    assert read_config(path).model == before
    with pytest.raises(UserError, match=r"bam.yaml:\d+: unknown key 'model.alpha'"):
        read_config(configs / "pascal/pascal_split0_bam_resnet50.yaml")


@pytest.mark.parametrize("words", [("coco", "pocket"), ("pascal", "bam"), ("coco", "insid3"), ("mini", "symnet")])
def test_lite1_and_lite2_take_the_settings_of_lite0(words: tuple[str, str]) -> None:
    of_lite0 = to_dict(read_config(config_path("split1", *words, "lite0")))
    for net in ("lite1", "lite2"):
        content = yaml.safe_dump(to_dict(read_config(config_path("split1", *words, net))))
        assert yaml.safe_load(content.replace(net, "lite0")) == of_lite0
