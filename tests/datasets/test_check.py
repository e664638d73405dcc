"""Tests of ``prepare.py check``: met and missing prerequisites with their commands, and counts of lists."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.datasets.printed import assert_done
from tests.helpers.paths import REPOSITORY
from util.config.compose import find_config
from util.config.folder import methods
from util.config.folds import Fold
from util.config.read import read_config
from util.data.lists.index import load_index
from util.data.lists.published_sizes import MAKERS, published
from util.data.words.text import NAME_VECTOR_WIDTH
from util.run.network import build_model
from util.run.run import BEST, Run
from util.train import check


@pytest.fixture(autouse=True)
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that sets the free gigabytes, at first many; the real free space must not affect the tests."""

    def set_free(gigabytes: float) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=gigabytes * 1e9))

    set_free(1000)
    return set_free


@pytest.fixture
def config(mini_yaml, tmp_path: Path) -> Path:
    """Return a config of the built-in data set with random weights, in a folder as ``config/<data set>``."""
    (tmp_path / "mini").mkdir()
    path = mini_yaml("prototype", "resnet18", model={"encoder": {"weights": None, "backbone": "resnet18"}})
    return Path(shutil.copy(path, tmp_path / "mini/mine.yaml"))


def test_met_prerequisites_are_reported(prepare, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "whole", lambda name, file: 7 if file.endswith("train.txt") else 0)
    outcome = prepare("check", config)
    assert_done(outcome, f"ok      torch: {torch.__version__}", "ok      lists mini fold 0")
    assert f"  python test.py {config}" in outcome.output  # no composed config, which alone the scripts know
    assert "missing" not in outcome.output.lower()
    assert re.search(
        "^differs data .* instead of 7 photos: it runs; published numbers are of the complete data set",
        outcome.output,
        re.MULTILINE,
    )


def test_missing_prerequisites_are_named_with_their_commands(prepare, config: Path, tmp_path: Path) -> None:
    missing = ("--set", f"data.root={tmp_path / 'nowhere'}", "--set", "model.encoder.weights=initmodel/lost.pth")
    outcome = prepare("check", config, *missing)
    assert outcome.code == 2
    for text in (
        "0 of 1 experiments can be run",
        f"python prepare.py mini --out {tmp_path / 'nowhere'}",
        "--set model.encoder.weights=torchvision",
    ):
        assert text in outcome.output


def test_a_disk_too_small_for_the_checkpoints_is_found(prepare, mini_yaml, disk) -> None:
    path = mini_yaml("symnet")
    config = read_config(path, [])
    network = build_model(config, NAME_VECTOR_WIDTH)
    network.freeze()
    weights = sum(tensor.nbytes for tensor in network.state_dict().values())
    learnt = sum(p.nbytes for p in network.parameters() if p.requires_grad)
    base = sum(tensor.nbytes for tensor in network.base_stage().state_dict().values())
    need = (weights + 3 * (weights + learnt) + 2 * base) / 1e9  # SGD: a number for each; the base stage's remain
    disk(need * 0.98)
    outcome = prepare("check", path)
    assert outcome.code == 2
    assert "--set run.folder=<DIR> on another disk" in outcome.output
    disk(need * 2)
    assert_done(prepare("check", path))
    disk(need * 0.5)
    best = Run(config).folder("meta") / BEST
    best.parent.mkdir(parents=True)
    with best.open("wb") as file:
        file.truncate(round(need * 1.5e9))
    assert_done(prepare("check", path))  # a run that has written most of it can be continued


@pytest.fixture
def few_configs(project: Path) -> Path:
    """Return a ``config`` folder in the current folder, of the built-in data set alone."""
    return Path(shutil.copytree(REPOSITORY / "config/mini", project / "config/mini")).parent


def test_all_experiments_are_checked(prepare, few_configs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = check.experiments()
    assert len(paths) == 4 * len(methods())
    monkeypatch.setattr(check, "experiments", lambda: [*paths[::42], Path("config/mini/lost.yaml")])
    output = prepare("check", "--all").output
    for text in ("0 of 3 experiments can be run", "MISSING config", "MISSING data data/mini"):
        assert text in output
    assert "--all: checks every experiment" in prepare("check", "--all", "split2", "mini").error


def test_data_sets_are_listed_without_a_config(prepare, few_configs: Path) -> None:
    assert_done(prepare("check"), "check split0 pascal", "missing: python prepare.py mini --out data/mini")


@pytest.fixture
def on_mini(mini_root: Path, few_configs: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the words that check an experiment on the small data set, on a machine without a GPU."""
    monkeypatch.setattr(check, "gpu_count", lambda: 0)
    words = ["check", "split2", "mini"]
    for change in (f"data.root={mini_root}", "data.min_pixels=100", "model.encoder.weights=null"):
        words += ["--set", change]
    return words


def test_experiment_and_data_set_name_a_config(prepare, on_mini: list[str], mini_root: Path) -> None:
    command = f"NET=resnet10 sh train.sh split2 mini 0 --set data.root={mini_root} --set "
    assert command in prepare(*on_mini).output
    assert "--model" in prepare("check", "config/mini/mini_demo.yaml", "--model", "ssp").error


@pytest.mark.parametrize(("name", "net"), [("bam", "timm/test_vit"), ("symnet", "resnet10")])
def test_method_and_encoder_stand_in_the_command(prepare, on_mini: list[str], name: str, net: str) -> None:
    output = prepare(*on_mini, "--model", name, "--net", net).output
    assert f"MODEL={name} NET={net} sh train.sh split2 mini 0" in output


def test_an_option_comes_before_the_environment(prepare, on_mini: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL", "bam")
    assert "MODEL=bam NET=resnet10 sh train.sh split2 mini 0" in prepare(*on_mini).output
    assert "MODEL=ssp NET=resnet10 sh train.sh split2 mini 0" in prepare(*on_mini, "--model", "ssp").output


@pytest.mark.parity
def test_fold_0s_list_sizes_equal_a_count_of_all_pixels(shared: Path, tmp_path: Path) -> None:
    settings = [f"data.root={shared / 'data/VOC2012'}", f"data.cache={tmp_path}"]
    data = read_config(REPOSITORY / "config/pascal/pascal_split0_resnet50.yaml", settings).data
    sizes = {part: len(make(load_index(data, part), Fold.of(data), data).queries) for part, make in MAKERS.items()}
    assert sizes == {"train": 1031, "test": 364}  # of a quarter of the training photos, and of all test photos
    assert published(data, "test") == 364


def test_a_list_file_of_others_is_counted(prepare, on_mini: list[str], mini_root: Path, tmp_path: Path) -> None:
    changes = [f"data.root={mini_root}", "data.min_pixels=100", f"data.cache={tmp_path}"]
    data = read_config(find_config("split2", "mini", "prototype"), changes).data
    images = MAKERS["test"](load_index(data, "test"), Fold.of(data), data)
    names = [images.index.names[row] for row in images.queries][1:]
    file = tmp_path / "list.txt"
    file.write_text("".join(f"JPEGImages/{name}.jpg SegmentationClassAug/{name}.png\n" for name in names))
    words = [*on_mini, "--set", f"protocols.symnet.list_file={file}"]
    assert re.search(rf"lists mini fold 2 .*{file}.*test: {len(names)}", prepare(*words).output)
    file.write_text("2007_000033__01\n")
    assert "not in the data set" in prepare(*words).output
