"""Training over the kept features of a frozen encoder: its size changes no weight, and views repeat."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from model.episode import Episode
from tests.helpers.close import all_close
from tests.helpers.trained import train_meta
from util.config.read import read_config
from util.data.episodes import EpisodeDataset
from util.data.sampling import EpisodeKey
from util.files.errors import UserError
from util.run import checkpoint
from util.run.data import meta_stage_data
from util.run.processes import ProcessGroup
from util.run.run import LAST, Run
from util.train import stages

pytestmark = pytest.mark.train
ENCODER = {"backbone": "timm/test_efficientnet", "weights": None}
STAGE = {"epochs": 1, "epoch_length": 8, "batch": 2, "validate_every": 0, "views": 2}
WORLD = ProcessGroup(0, 1, torch.device("cpu"))


@pytest.fixture
def config(mini_yaml):
    """Return a function that gives DCAMA's config over the tiny data set with a small encoder of timm."""

    def make(name: str, *overrides: str, model: str = "dcama", **stage: object):
        path = mini_yaml(
            model,
            model={"encoder": ENCODER},
            meta_stage={**STAGE, "input": "crop", **stage},
        )
        return read_config(path, [f"run.name={name}", *overrides])

    return make


def weights_after(config) -> dict[str, torch.Tensor]:
    """Return the weights after the training of a config."""
    assert train_meta(config) == 0
    return checkpoint.read(Run(config).folder("meta") / LAST).entries["weights"]


@pytest.mark.parametrize("model", ["dcama", "pfenet"])
def test_weights_depend_on_the_pixels_and_not_on_the_size_of_the_file(config, monkeypatch, caplog, model: str) -> None:
    config = partial(config, model=model)
    with monkeypatch.context() as patched, caplog.at_level("INFO"):  # the disk is left to the checkpoints
        patched.setattr(stages, "free_bytes", lambda config: 2**20)
        none = weights_after(config("small_disk"))
    assert "encoder: 0 views kept" in caplog.text
    with monkeypatch.context() as patched:
        patched.setattr(stages, "KEPT_GIB", 0.0002)
        part = weights_after(config("kept_in_part"))
    whole = weights_after(config("kept"))
    assert all_close(part, none) and all_close(whole, none)
    get_episode = EpisodeDataset.__getitem__

    def inverted(dataset: EpisodeDataset, number: int) -> Episode:
        episode = get_episode(dataset, number)
        return replace(episode, query=255 - episode.query)

    monkeypatch.setattr(EpisodeDataset, "__getitem__", inverted)
    changed = weights_after(config("inverted"))
    assert not all_close(changed, whole)


def test_fixed_views_repeat_and_differ_from_each_other(config) -> None:
    run = Run(config("views", model="sccan"))
    dataset = meta_stage_data(run, WORLD).training
    key = dataset.sampler(0)
    views = set()
    for number in range(20):
        image, classes = dataset._view(key.query, EpisodeKey(number, key.query, key.class_id, key.supports), 0)
        views.add((image.numpy().tobytes(), classes.tobytes()))
    assert len(views) == 2


def test_an_encoder_that_learns_has_no_fixed_views(config) -> None:
    with pytest.raises(UserError, match=r"meta_stage\.views has no effect: SCCAN's encoder learns"):
        config("refused", "model.encoder.learn.parts=[4]", model="sccan")
