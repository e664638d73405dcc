"""The methods beside Sym-Net under the same trainer and tester: a short training each, shots, refused settings."""

from pathlib import Path

import pytest
import torch

from model.registry import methods
from tests.helpers.read import json_of
from tests.helpers.scored import score
from tests.helpers.trained import train_meta, train_stage
from util.config.folder import MAIN_METHOD, method_names
from util.config.read import read_config
from util.config.settings import Config
from util.files.errors import UserError
from util.run.build import build_model
from util.run.data import (
    base_stage_data,
    epoch_length,
    images_for_test,
    images_for_training,
    training_episodes,
    validation_episodes,
)
from util.run.run import Run
from util.run.weights import TRAINING_FREE
from util.weights import checkpoint
from util.weights.fill import fill

CLASSES = {name: methods()[name] for name in method_names() if name in methods() and name != MAIN_METHOD}
# with a base stage; shots that share weights; a class of its own; any size
LEARNING = ("bam", "hsnet", "pocket", "ssp")
FAST = {"checkpoint": "best", "episodes": 3, "seeds": [0]}


@pytest.fixture
def config(mini_yaml):
    """Return a function that gives a model's config over the tiny data set, with overrides."""

    def make(model: str, *overrides: str):
        path = mini_yaml(
            model,
            run={"base_folder": None},
            meta_stage={"epoch_length": 8, "validate_every": 0.5, "validate_episodes": 4, "validate_on": "base"},
            test=FAST,
        )
        return read_config(path, list(overrides))

    return make


@pytest.mark.train
@pytest.mark.parametrize("model", LEARNING)
def test_a_short_training_and_a_test_at_one_and_two_shots(config, model: str) -> None:
    short = config(model)
    cls = CLASSES[model]
    if cls.has_base_stage():
        assert train_stage("base", short) == 0
    assert train_meta(short) == 0
    check_training(short)
    check_results(short, model)
    if cls.shots_share_weights:
        two_shots = short.with_data(shot=2)
        assert Run(two_shots).tested_folder == Run(short).tested_folder != Run(two_shots).folder("meta")
        assert score(two_shots)[0]["checkpoint"].endswith("meta/best.pth")


def check_results(short: Config, model: str) -> None:
    """Test a trained model by protocols of two image sizes, and check what the results state."""
    square = f"{short.data.size} x {short.data.size}"
    inputs = {
        "hdmnet": f"stretch {square}",
        "ssp": "original sizes" if CLASSES[model].takes_any_size(short.model) else f"letterbox {square}",
    }
    for result, (protocol, start) in zip(score(short, protocols=[*inputs]), inputs.items(), strict=True):
        assert result["protocol"] == protocol
        assert result["input"].startswith(start)
        assert result["trained_with"]["model"]["name"] == model
        assert result["cost"]["processor_minutes"] == processor_minutes(short, "meta")
    if short.base_stage is not None:  # whose minutes count
        assert processor_minutes(short, "meta") > processor_minutes(short, "base") > 0


def processor_minutes(config: Config, stage: str) -> float:
    return json_of(Run(config).folder(stage) / "metrics.json")["processor_minutes"]


def check_training(config: Config) -> None:
    """Check the record of a training of two steps, which is validated on base classes."""
    record = json_of(Run(config).folder("meta") / "metrics.json")
    assert record["finished"]
    assert [epoch["step"] for epoch in record["epochs"]] == [1, 2]  # four episodes at a time
    base = {str(c) for c in Run(config).fold.base}
    for epoch in record["epochs"]:
        assert set(epoch["validation"]["final"]["per_class"]) <= base


@pytest.mark.train
@pytest.mark.parametrize("model", ["insid3", "probe"])
def test_a_method_that_learns_nothing_is_tested_by_every_kind_of_protocol(mini_yaml, model: str) -> None:
    config = read_config(mini_yaml(model, test=FAST), ["data.shot=2", "test.batch=3"])
    inputs = {
        "symnet": "letterbox 33 x 33",
        "ssp": "original sizes, nothing resized",
        "hsnet": "stretch 100 x 100",
        "hdmnet": "stretch 33 x 33",
    }
    results = score(config, protocols=(*inputs, "2way"))
    assert [result["protocol"] for result in results] == [*inputs, "2way"]
    assert [result["input"] for result in results[:4]] == [*inputs.values()]
    assert {result["checkpoint"] for result in results} == {TRAINING_FREE}


def test_a_base_stage_may_train_on_all_images(config) -> None:
    """Those that show novel classes stay, with the novel classes as background; so they do in its validation."""
    data = {}
    for images in ("fold", "all"):
        settings = config("bam", f"base_stage.images={images}", "base_stage.validate_episodes=100000")
        data[images] = base_stage_data(Run(settings), progress=False)
    fold_images = data["fold"].images
    all_images = data["all"].images
    index = all_images.index
    assert len(all_images.queries) == len(index.names) > len(fold_images.queries)
    assert data["all"].validation_length > data["fold"].validation_length
    row = int((index.areas[:, list(Run(config("bam")).fold.novel)] > 0).any(1).nonzero()[0][0])
    assert row in all_images.queries
    assert row not in fold_images.queries


def test_validation_episodes_are_of_the_seed_that_the_stage_names(config) -> None:
    drawn = {}
    for seed in ("321", "510", "null"):  # without one, the protocol's first
        run = Run(config("hdmnet", f"meta_stage.validate_seed={seed}", "test.protocol=hdmnet"))
        episodes = validation_episodes(run, images_for_test(run, progress=False))
        drawn[seed] = [episodes[i].rows for i in range(8)]
    assert drawn["null"] == drawn["510"] != drawn["321"]


def test_pairs_make_an_epoch_each_once(config) -> None:
    run = Run(config("dcama", "meta_stage.epoch_length=null"))
    images = images_for_training(run, progress=False)
    length = epoch_length(run.config.meta_stage, images)
    assert length == len(images.pairs)
    episodes = training_episodes(run, images)
    keys = [episodes.sampler(n) for n in range(2 * length)]
    pairs = [(key.query, key.class_id) for key in keys]
    first_epoch, second_epoch = pairs[:length], pairs[length:]
    assert first_epoch != second_epoch
    assert sorted(first_epoch) == sorted(second_epoch) == sorted(images.pairs)
    query = episodes[0].query
    assert (query.shape[-2:], query.dtype) == ((64, 64), torch.float32)


@pytest.mark.parametrize(("model", "other"), [("ssp", "dcama"), ("bam", "hdmnet"), ("hdmnet", "hdmnet")])
def test_an_authors_checkpoint_of_something_else_is_refused(config, tmp_path: Path, model: str, other: str):
    path = tmp_path / "authors.pth"
    torch.save({name: torch.zeros(1) for name in methods()[other].published.signature}, path)
    run = Run(config(model))
    network = build_model(run.config, run.text_width)
    with pytest.raises(UserError, match=r"not weights of this model as configured: .*; check model\.name"):
        fill(network, checkpoint.read(path))
