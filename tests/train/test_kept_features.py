"""Training over the kept features of a frozen encoder: its size changes no weight, and views repeat."""

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from model.encoders.encoder import Features
from model.episode import Episode
from model.tensors.mask import Mask
from tests.helpers.close import all_close
from tests.helpers.trained import train_meta
from util.config.read import read_config
from util.data.episodes import EpisodeDataset
from util.data.sampling import EpisodeKey
from util.files.errors import UserError
from util.run.data import meta_stage_data
from util.run.folder import LAST
from util.run.run import Run
from util.train import stages
from util.train.kept_features import KeptMaps, RecordFile
from util.weights import checkpoint

ENCODER = {"backbone": "timm/test_efficientnet", "weights": None}
STAGE = {"epochs": 1, "epoch_length": 8, "batch": 2, "validate_every": 0, "views": 2}


@pytest.fixture
def config(mini_yaml):
    """Return a function that gives DCAMA's config over the tiny data set with a small encoder of timm."""

    def make(name: str, *overrides: str, model: str = "dcama", **stage: object):
        written = mini_yaml(model, model={"encoder": ENCODER}, meta_stage={**STAGE, "input": "crop", **stage})
        return read_config(written, [f"run.name={name}", *overrides])

    return make


def weights_after(config) -> dict[str, torch.Tensor]:
    """Return the weights after the training of a config."""
    assert train_meta(config) == 0
    return checkpoint.read(Run(config).folder("meta") / LAST).entries["weights"]


@pytest.mark.train
@pytest.mark.parametrize(
    ("model", "settings", "patched", "given"),
    [("pfenet", ["model.scales=[3]"], "free_on_disk", lambda *_: 2**20), ("dcama", [], "KEPT_GIB", 0.0002)],
)
def test_weights_depend_on_the_pixels_and_not_on_what_is_kept(
    config, monkeypatch, *, model: str, settings: list[str], patched: str, given: object
) -> None:
    """Nothing where the disk is left to the checkpoints, or a part, or all."""
    files = []

    def made(*arguments: Any) -> RecordFile:
        files.append(RecordFile(*arguments))
        return files[-1]

    with monkeypatch.context() as less:
        less.setattr(stages, patched, given)
        less.setattr(stages, "RecordFile", made)
        kept_less = weights_after(config("kept_less", *settings, model=model))
    assert [bool(file.places) for file in files] == [patched != "free_on_disk"]
    whole = weights_after(config("kept", *settings, model=model))
    assert all_close(kept_less, whole)
    get_episode = EpisodeDataset.__getitem__

    def inverted(dataset: EpisodeDataset, number: int) -> Episode:
        episode = get_episode(dataset, number)
        return replace(episode, query=255 - episode.query)

    monkeypatch.setattr(EpisodeDataset, "__getitem__", inverted)
    assert not all_close(weights_after(config("inverted", *settings, model=model)), whole)


def test_maps_are_kept_by_image_and_mask(tmp_path: Path) -> None:
    """They are of a support with its mask, which may enter the encoder."""
    kept = KeptMaps(RecordFile(tmp_path, 1))
    passed = []

    def encode(image: torch.Tensor, mask: Mask | None) -> Features:
        passed.append(0.0 if mask is None else mask.label.sum().item())
        return Features({2: image.float() + passed[-1]}, {})

    image = torch.zeros(1, 3, 4, 4)
    masks = [None, Mask(torch.zeros(1, 4, 4, dtype=torch.uint8)), Mask(torch.ones(1, 4, 4, dtype=torch.uint8))]
    for _ in range(2):
        assert [kept(image, mask, encode).stage[2].max().item() for mask in masks] == [0, 0, 16]
    assert passed == [0, 0, 16]


def test_fixed_views_repeat_and_differ_from_each_other(config) -> None:
    """There are two of a photo and class, and query and supports choose each their own."""
    run = Run(config("views", "meta_stage.augment.keep_target=0", model="sccan"))
    dataset = meta_stage_data(run, progress=False).training
    key = dataset.sampler(0)
    views = set()
    for number in range(20):
        keys = [EpisodeKey(number, key.query, class_id, key.supports) for class_id in (1, 2)]
        shown = [dataset._view(key.query, each, slot) for each in keys for slot in (0, 1)]
        views.add(tuple(view.image.numpy().tobytes() for view in shown))
    assert (len(views), len({*chain(*views)})) == (4, 4)


def test_an_encoder_that_learns_has_no_fixed_views(config) -> None:
    with pytest.raises(UserError, match=r"meta_stage\.views has no effect: SCCAN's encoder learns"):
        config("refused", "model.encoder.learn.parts=[4]", model="sccan")
    assert config("frozen", "model.encoder.learn.parts=[]", model="sccan").meta_stage.views == 2
