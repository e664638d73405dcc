"""Tests of the errors about missing data, base stages and ImageNet weights, which come before photos are read."""

import pytest

from util.checkpoints.run import Run
from util.checkpoints.weights import network_to_train
from util.config.read import read_config
from util.data.lists.index import load_index
from util.errors import UserError
from util.train import stages as training

BASE = "runs/mini_split0_resnet10/base/gone.pth"
GONE = {"encoder": {"weights": "initmodel/gone.pth"}}


def test_missing_data_name_the_command_that_makes_them(mini_yaml) -> None:
    config = read_config(mini_yaml(data={"root": "nowhere"}))
    with pytest.raises(UserError, match=r"nowhere: this data folder does not exist.*prepare.py mini --out nowhere"):
        load_index(config.data, "train")


def test_a_missing_base_stage_names_the_command_before_photos_are_read(mini_yaml, monkeypatch) -> None:
    monkeypatch.setattr(training, "meta_stage_data", lambda *_: pytest.fail("photos were read"))
    path = mini_yaml(model={"encoder": {"weights": None}})
    with pytest.raises(UserError, match=rf"base/best.pth: the base stage's .* python train_base.py {path}"):
        training.train_meta(read_config(path), resume=False, overwrite=False)


def test_missing_imagenet_weights_say_where_they_come_from(mini_yaml, monkeypatch) -> None:
    monkeypatch.setattr(training, "base_stage_data", lambda *_: pytest.fail("photos were read"))
    config = read_config(mini_yaml(model=GONE))
    with pytest.raises(UserError, match=r"gone.pth: these weights do not exist; .*initmodel/README.md .* NET=lite0"):
        training.train_base(config, resume=False, overwrite=False)
    other = read_config(mini_yaml("mini_split0_ssp_resnet10.yaml", model={"encoder": {"weights": BASE}}))
    with pytest.raises(UserError, match=r"train it first: NET=resnet10 sh train.sh split0 mini 0"):
        network_to_train(Run(other), "meta", resume=False)
