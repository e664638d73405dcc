"""Settings that mean nothing beside others are refused, or have their defaults where they are inherited."""

import dataclasses
from typing import Any

import pytest

from util.config import read
from util.config.read import read_config
from util.errors import UserError

DEAD = [
    ("mini_split0_resnet10.yaml", setting)
    for setting in (
        "base_stage.query=random",
        "meta_stage.images=all",
        "base_stage.augment.keep_target=0.5",
        "meta_stage.optimizers.main.betas=[0.8,0.9]",
        "meta_stage.optimizers.main.milestones=[0.5]",
        "data.fold_classes=[[disc],[ring]]",
        "model.encoder.partial=true",
    )
]
DEAD += [
    ("mini_split0_dcama_resnet10.yaml", "meta_stage.optimizers.main.momentum=0.5"),
    ("mini_split0_dcama_resnet10.yaml", "meta_stage.patience=3"),
    ("mini_split0_dcama_resnet10.yaml", "meta_stage.validate_midway=true"),
    ("mini_split0_dcama_resnet10.yaml", "meta_stage.views=3"),
    ("mini_split0_dcama_resnet10.yaml", "meta_stage.augment.rotate=30"),
]


@pytest.mark.parametrize(("name", "setting"), DEAD, ids=[setting for _, setting in DEAD])
def test_what_means_nothing_is_refused(mini_yaml, name: str, setting: str) -> None:
    changes: dict[str, Any] = {"meta_stage": {"validate_every": 0}} if "dcama" in name else {}
    optimizers = {"main": {"kind": "adamw"}} if "dcama" in name else {"main": {"kind": "sgd", "schedule": "poly"}}
    changes["meta_stage"] = {"optimizers": optimizers, **changes.get("meta_stage", {})}
    path = mini_yaml(name, **changes)
    key = setting.partition("=")[0]
    with pytest.raises(UserError, match=rf"--set .*{key} has no effect"):
        read_config(path, [setting])


def test_inherited_settings_that_mean_nothing_have_their_defaults(mini_yaml) -> None:
    content = read_config(mini_yaml(meta_stage={"validate_every": 0}))
    assert content.meta_stage.patience == 0
    again = read.from_dict(read.to_dict(content), "stored")
    assert again == dataclasses.replace(content, path="stored")
