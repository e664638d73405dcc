"""Tests of ``prepare.py check`` and ``lists``: met and missing prerequisites with their commands, and counts."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.helpers.paths import REPOSITORY
from util.checkpoints.run import BEST, Run
from util.config.read import read_config
from util.data.words.text import NAME_VECTOR_WIDTH
from util.prepare import check
from util.runtime.network import build_model


@pytest.fixture(autouse=True)
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that sets the free gigabytes, at first many; the real free space must not affect the tests."""

    def set_free(gigabytes: float) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=gigabytes * 1e9))

    set_free(1000)
    return set_free


def test_available_and_missing_prerequisites(prepare, mini_yaml, tmp_path: Path, monkeypatch) -> None:
    name, encoder = "mini_split0_prototype_resnet18.yaml", {"weights": None, "backbone": "resnet18"}
    (tmp_path / "mini").mkdir()  # like config/<data set>
    config = Path(shutil.copy(mini_yaml(name, model={"encoder": encoder}), tmp_path / "mini" / name))
    monkeypatch.setitem(check.PUBLISHED_SIZES, "mini", {"train": 7})
    outcome = prepare("check", config)
    assert outcome.code == 0 and "wait for" not in outcome.output, outcome.output
    for line in (f"ok      torch: {torch.__version__}", "ok      lists mini fold 0", f"  python test.py {config}"):
        assert line in outcome.output  # no composed config of config/, which alone the scripts know
    assert re.search("^differs data .* published 7: differs", outcome.output, re.MULTILINE)
    lost = ("--set", f"data.root={tmp_path / 'nowhere'}", "--set", "model.encoder.weights=initmodel/lost.pth")
    outcome = prepare("check", config, *lost)
    assert outcome.code == 2 and "0 of 1 experiments can be run now" in outcome.output
    assert f"python prepare.py mini --out {tmp_path / 'nowhere'}" in outcome.output
    assert "python prepare.py weights resnet18" in outcome.output


def test_a_disk_too_small_for_the_checkpoints_is_found(prepare, mini_yaml, disk) -> None:
    path = mini_yaml("mini_split0_resnet10.yaml")
    config = read_config(path, [])
    network = build_model(config, NAME_VECTOR_WIDTH)
    network.freeze()
    weights = sum(tensor.nbytes for tensor in network.state_dict().values())
    learnt = sum(p.nbytes for p in network.parameters() if p.requires_grad)
    base = sum(tensor.nbytes for tensor in network.base_stage().state_dict().values())
    need = (weights + 3 * (weights + learnt) + 2 * base) / 1e9  # SGD: a number for each; the base stage's remain
    disk(need * 0.98)
    outcome = prepare("check", path)
    assert outcome.code == 2 and "--set run.folder=<DIR> on another disk" in outcome.output
    disk(need * 2)
    assert prepare("check", path).code == 0
    disk(need * 0.5)
    best = Run(config).folder("meta") / BEST
    best.parent.mkdir(parents=True)
    with best.open("wb") as file:
        file.truncate(round(need * 1.5e9))
    assert prepare("check", path).code == 0  # a run that has written most of it can be continued


@pytest.fixture
def few_configs(project: Path) -> Path:
    """Return a ``config`` folder in the current folder, of the built-in data set alone."""
    return Path(shutil.copytree(REPOSITORY / "config/mini", project / "config/mini")).parent


def test_all_experiments_are_checked(prepare, few_configs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = prepare("check").output
    assert "check split0 pascal" in output and "missing: python prepare.py mini --out data/mini" in output
    found = check.experiments(few_configs)
    monkeypatch.setattr(check, "experiments", lambda root: [*found[::42], Path("config/mini/lost.yaml")])
    output = prepare("check", "--all").output
    assert len(found) == 84 and "0 of 3 experiments can be run now" in output and "MISSING config" in output
    assert "MISSING data data/mini" in output
    assert "--all: checks every experiment" in prepare("check", "--all", "split2", "mini").error


def test_experiment_and_data_set_name_a_config(
    prepare, few_configs: Path, mini_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "gpu_count", lambda: 0)
    changes = f"data.root={mini_root}", "data.min_pixels=100", "model.encoder.weights=null"
    settings = [word for change in changes for word in ("--set", change)]
    command = f"NET=resnet10 sh train.sh split2 mini 0 --set {changes[0]} --set "
    assert command in prepare("check", "split2", "mini", *settings).output
    for name, net in (("bam", "timm/test_vit"), ("symnet_plus", "resnet10")):
        words = ("check", "split2", "mini", "--model", name, "--net", net, *settings)
        assert f"MODEL={name} NET={net} sh train.sh split2 mini 0" in prepare(*words).output
    monkeypatch.setenv("MODEL", "bam")
    assert "MODEL=bam NET=resnet10 sh train.sh split2 mini 0" in prepare("check", "split2", "mini", *settings).output
    words = ("check", "split2", "mini", "--model", "ssp", *settings)
    assert "MODEL=ssp NET=resnet10 sh train.sh split2 mini 0" in prepare(*words).output
    assert "--model" in prepare("check", "config/mini/mini_split0_resnet10.yaml", "--model", "ssp").error


@pytest.mark.parity
def test_sizes_of_shared_fold_0_are_those_of_a_count_of_all_pixels(prepare, shared: Path, tmp_path: Path) -> None:
    settings = ("--set", f"data.root={shared / 'data/VOC2012'}", "--set", f"data.cache={tmp_path}")
    output = prepare("lists", "--fold", 0, *settings).output
    assert "fold 0: 1031, published 4208: differs" in output and "fold 0: 364, published 364: OK" in output


def test_counts_of_all_folds_and_of_a_list_file_of_another_project(prepare, mini_yaml, mini_root, tmp_path) -> None:
    config = mini_yaml("mini_split0_prototype_resnet18.yaml")
    outcome = prepare("lists", config)
    assert outcome.code == 0 and sum(line.strip().startswith("fold ") for line in outcome.output.splitlines()) == 8
    names = sorted((mini_root / "ImageSets/Segmentation/val.txt").read_text().split())
    (tmp_path / "list.txt").write_text(f"JPEGImages/{names[0]}.jpg SegmentationClassAug/{names[0]}.png\n")
    words = ("--set", f"data.test_fold_list={tmp_path / 'list.txt'}")
    found = [prepare("lists", config, *words, "--fold", fold) for fold in range(4)]
    assert any("fold" in one.output and ": 1\n" in one.output for one in found), found
    assert "allowed: 0..3" in prepare("lists", config, "--fold", 4).error
    (tmp_path / "list.txt").write_text("2007_000033__01\n")
    assert "not in the data set" in prepare("lists", config, *words).error
