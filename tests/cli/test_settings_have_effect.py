"""Every setting, changed alone, changes something or is refused."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import pytest

from util.config import read
from util.config.read import read_config
from util.config.settings import (
    AugmentSettings,
    DataSettings,
    RunSettings,
    StageSettings,
    TestSettings,
)
from util.errors import UserError
from util.evaluate.jobs import Request
from util.evaluate.testing import test as score
from util.train.stages import train_base, train_meta

SECTIONS = (AugmentSettings, DataSettings, RunSettings, StageSettings, TestSettings)
DEAD = [
    ("mini_split0_resnet10.yaml", setting)
    for setting in (
        "base_stage.query=random",
        "base_stage.supports=with_replacement",
        "base_stage.views=2",
        "base_stage.cache_gib=1",
        "base_stage.validate_on=gone.yaml",
        "base_stage.validate_seed=3",
        "base_stage.input=stretch",
        "meta_stage.images=all",
        "base_stage.augment.keep_tries=3",
        "meta_stage.optimizers.main.betas=[0.8,0.9]",
        "meta_stage.optimizers.main.milestones=[0.5]",
        "meta_stage.optimizers.main.decay=0.5",
        "data.fold_classes=[[disc],[ring]]",
        "model.encoder.partial=true",
        "model.encoder.pretraining=ImageNet",
    )
]
DEAD += [
    ("mini_split0_dcama_resnet10.yaml", "meta_stage.optimizers.main.momentum=0.5"),
    ("mini_split0_dcama_resnet10.yaml", "meta_stage.patience=3"),
    ("mini_split0_dcama_resnet10.yaml", "meta_stage.validate_midway=true"),
]
NOT_HERE = ["data.text_dir", "test.data_sets"]  # of methods that read text from files, of reproduce.sh


@pytest.mark.parametrize(("name", "setting"), DEAD, ids=[setting for _, setting in DEAD])
def test_what_means_nothing_is_refused(mini_yaml, name: str, setting: str) -> None:
    changes: dict[str, Any] = {"meta_stage": {"validate_every": 0}} if "dcama" in name else {}
    optimizers = {"main": {"kind": "adamw"}} if "dcama" in name else {"main": {"kind": "sgd", "schedule": "poly"}}
    changes["meta_stage"] = {"optimizers": optimizers, **changes.get("meta_stage", {})}
    path = mini_yaml(name, data={"size": 64 if "dcama" in name else 33}, **changes)
    key = setting.partition("=")[0]
    with pytest.raises(UserError, match=rf"--set .*{key} has no effect"):
        read_config(path, [setting])


def test_one_shot_has_no_masks_to_fuse(mini_yaml) -> None:
    with pytest.raises(UserError, match=r"test\.fuse = masks has no effect"):
        score(read_config(mini_yaml(), ["test.fuse=masks", "test.checkpoint=none"]), Request())


def test_inherited_settings_that_mean_nothing_have_their_defaults(mini_yaml) -> None:
    content = read_config(mini_yaml(meta_stage={"validate_every": 0}))
    assert content.meta_stage.patience == 0
    again = read.from_dict(read.to_dict(content), "stored")
    assert again == dataclasses.replace(content, path="stored")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int | type, str]]:
    """Return what of the settings was read in a run, by object or class; copies and checks of all do not count."""
    found: set[tuple[int | type, str]] = set()

    def reading(settings: Any, name: str) -> Any:
        asker = sys._getframe(1).f_code.co_filename
        if (
            not name.startswith("_")
            and not asker.endswith("dataclasses.py")
            and not asker.endswith(("checks.py", "read.py"))
        ):
            found.update({(id(settings), name), (type(settings), name)})
        return object.__getattribute__(settings, name)

    for cls in SECTIONS:
        monkeypatch.setattr(cls, "__getattribute__", reading)
    return found


@pytest.mark.train
def test_every_other_setting_is_read_in_a_run(mini_yaml, seen: set, capsys: pytest.CaptureFixture) -> None:
    averaging = {"seeds": [0], "episodes": 2, "pictures": 1, "batch": 2, "fuse": "masks", "flip": True}
    config = read_config(mini_yaml(test=averaging, model={"encoder": {"weights": None}}))
    assert train_base(config, resume=False, overwrite=False) == 0
    assert train_meta(config, resume=False, overwrite=False) == 0
    score(config, Request(shots=(2,)))
    stages = {name: getattr(config, name) for name in ("base_stage", "meta_stage")}
    augment = {f"{name}.augment": stage.augment for name, stage in stages.items()}
    unread = set()
    for path, settings in {**stages, **augment, "data": config.data, "test": config.test, "run": config.run}.items():
        key = id(settings) if path in (*stages, *augment) else type(settings)
        unread |= {f"{path}.{f.name}" for f in dataclasses.fields(settings) if (key, f.name) not in seen}
    refused = {setting.partition("=")[0] for _, setting in DEAD}
    assert sorted(unread - refused) == sorted(NOT_HERE)
