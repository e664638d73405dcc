"""The commands' choice of a config: composed by names of data set, fold, method and encoder, printed, or refused."""

import ast
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from model.common.with_encoder import WithEncoder
from model.encoders.swin import SwinEncoder
from model.encoders.vgg import VGGEncoder
from tests.paths import REPOSITORY
from util import requirements
from util.config import command_line
from util.config.compose import config_path, encoders_of, experiments, methods, model_class
from util.config.read import read_config, to_dict
from util.errors import UserError

CONFIGS = REPOSITORY / "config"
SCRIPTS = ("benchmark", "demo", "predict", "prepare", "report", "test", "train", "train_base")
ENTRY_POINTS = ("train.sh", "test.sh", "reproduce.sh", *(f"{name}.py" for name in SCRIPTS))
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


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["config/pascal/pascal_split0_resnet50.yaml"], "pascal_split0_resnet50"),
        (["split0", "pascal", "--model", "dcama", "--net", "swin_b"], "pascal_split0_dcama_swin_b"),
        (["split3", "coco", "--net", "resnet50_plus"], "coco_split3_resnet50_plus"),
    ],
)
def test_a_printed_config_reads_back_equal(tmp_path: Path, capsys, words: list[str], name: str) -> None:
    overrides = ["--set", "run.seed=7", "--set", "meta_stage.optimizers.main.lr=3e-5"]
    options = command_line.parser(None).parse_args(["--print-config", *words, *overrides])
    assert command_line.show(options)
    text = capsys.readouterr().out
    (tmp_path / "copy.yaml").write_text(text)
    config, again = command_line.read(options), read_config(tmp_path / "copy.yaml")
    assert config.run.name == name and again == config and to_dict(again) == to_dict(config)
    assert all(line.endswith(":") or "  # " in line for line in text.splitlines())


def test_each_value_says_where_it_comes_from(capsys) -> None:
    words = ["--print-config", "split2", "pascal", "--model", "ssp", "--set", "data.shot=5"]
    command_line.show(command_line.parser(None).parse_args(words))
    lines = [line.strip().partition("  # ") for line in capsys.readouterr().out.splitlines()]
    source = {setting.partition(":")[0]: place for setting, _, place in lines}
    names = {setting.strip(): place for setting, _, place in lines}
    assert names["name: pascal_split2_ssp_resnet50"] == "composed: the config's name"
    assert (source["shot"], source["fold"]) == ("--set data.shot=5", "composed: fold")
    assert source["image_suffix"] == "default" and source["backbone"].startswith("config/encoder/resnet50.yaml:")
    file, line = source["refine"].split(":")
    assert file == "config/model/ssp.yaml" and "refine" in Path(file).read_text().splitlines()[int(line) - 1]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["split1"], "cannot read this config"),
        (["split1", "pascal", "4"], "name one YAML file, or an experiment and a data set"),
        (["config/mini/mini_split0_resnet10.yaml", "--net", "vgg16"], "--net .* go with"),
        (["split1", "pascal", "--model", "sspp"], "did you mean 'ssp'"),
    ],
)
def test_words_that_name_no_config_are_refused(words: list[str], part: str) -> None:
    with pytest.raises(UserError, match=part):
        command_line.read(command_line.parser(None).parse_args(words))


@pytest.mark.process
@pytest.mark.parametrize("script", ENTRY_POINTS)
def test_without_the_packages_the_first_command_is_named(script: str, tmp_path: Path) -> None:
    """A folder without ``.venv``, and a Python that has the standard library alone."""
    for folder in ("util", "model"):
        (tmp_path / folder).symlink_to(REPOSITORY / folder)
    shutil.copy(REPOSITORY / script, tmp_path)
    bare = tmp_path / "bin/python3"
    bare.parent.mkdir()
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    words = ["sh" if script.endswith("sh") else bare, tmp_path / script, "split0", "pascal", "0"]
    done = subprocess.run(words, env={"PATH": f"{bare.parent}:/usr/bin:/bin"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("error: the package 'torch' is not installed") and "first run: " in done.stderr


def test_an_old_python_ends_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """It can parse what runs before the check: 3.7 is the oldest whose grammar ``ast`` knows."""
    for script in (*ENTRY_POINTS, "hubconf.py", "util/__init__.py", "util/requirements.py"):
        if script.endswith(".py"):
            ast.parse((REPOSITORY / script).read_text(), feature_version=(3, 7))
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    with pytest.raises(SystemExit) as ended:
        requirements.check(python_alone=True)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith("error: Python 3.10 or later is needed") and said.count("\n") == 1
