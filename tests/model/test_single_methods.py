"""Steps of single methods: outputs, maps that are read, HDMNet's teacher, HSNet on VGG-16, HMNet's sizes, relations."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from torch import nn

from model import contract
from model.checked import checked
from model.encoders.layouts import load_encoder
from model.encoders.settings import EncoderSettings, build_encoder
from model.episode import Output
from model.hdmnet.transformer import true_distribution
from model.hmnet.hmnet import HMNetSettings
from model.hsnet.hsnet import HSNet, vote
from model.hsnet.settings import HSNetSettings
from model.maps import Maps, Passing
from model.mismatch import ModelMismatch
from model.parts.base_learner import Ensemble, ShotWeights
from model.registry import related
from tests.model.small import drawn_episode, small_model
from tests.model.varied import bare_encoder


@pytest.mark.parametrize(
    ("votes_of_pixels", "foreground"), [((0, 0), (0, 0)), ((0, 1), (0, 1)), ((1, 2, 3), (0, 1, 1))]
)
def test_half_of_the_most_votes_and_at_least_one_make_hsnets_foreground(votes_of_pixels, foreground) -> None:
    shots, pixels = 5, len(votes_of_pixels)
    logits = torch.zeros(1, shots, 2, 1, pixels)
    for pixel, count in enumerate(votes_of_pixels):
        logits[0, :, :, 0, pixel] = torch.tensor([1.0, -1.0])
        logits[0, :count, :, 0, pixel] = torch.tensor([-1.0, 1.0])
    voted, votes = vote(logits)
    assert votes.flatten().tolist() == [*votes_of_pixels]
    assert voted.argmax(1).flatten().tolist() == [*foreground]


@pytest.mark.parametrize("read", [[], [3]])  # stages that are read at the first block
def test_blocks_come_whatever_stages_were_read_before(read: list[int]) -> None:
    stages = {}

    def steps() -> Iterator[tuple[int, torch.Tensor]]:
        for stage in (2, 3):
            yield stage, torch.full((1,), stage)
            stages[stage] = torch.full((1,), 10 * stage)

    maps = Maps(stages, Passing(steps()))
    found = []
    for stage, block in maps.blocks():
        found.append((stage, int(block)))
        assert [int(maps[i]) for i in read] == [10 * i for i in read]
    assert found == [(2, 2), (3, 3)] and int(maps[2]) == 20


@pytest.mark.parametrize(
    ("box", "even", "cells"),  # (top, bottom, left, right) in an image of 4 x 4 cells of 8 pixels
    [
        ((8, 24, 0, 16), False, [4, 5, 8, 9]),
        ((8, 24, 0, 16), True, [4, 5, 8, 9]),
        ((12, 13, 3, 6), False, [4]),  # half of the pixels that cell 4 reads
        ((12, 13, 3, 6), True, list(range(16))),
        ((0, 0, 0, 0), False, list(range(16))),
    ],
)
def test_the_cells_that_see_most_of_the_object_share_the_teacher(box: tuple, even: bool, cells: list[int]) -> None:
    label = torch.zeros(1, 32, 32, dtype=torch.uint8)
    top, bottom, left, right = box
    label[:, top:bottom, left:right] = 1
    found = true_distribution(label, (4, 4), even)[0]
    assert found.nonzero()[:, 0].tolist() == cells and found[cells].tolist() == pytest.approx(
        [1 / len(cells)] * len(cells)
    )


@torch.no_grad()
def test_an_object_that_fills_its_photo_leaves_the_episode_beside_it_alone() -> None:
    network = small_model("hsnet", 1)
    both = drawn_episode("hsnet", 1, 2)
    both.support_label[0] = 1  # all positions of its grids are the object's, of the other support some
    torch.testing.assert_close(network(both).logits[1:], network(both.part(slice(1, 2))).logits)


@pytest.mark.parametrize(("size", "fits"), [(400, True), (144, True), (280, False), (31, False)])
def test_vgg_refuses_sizes_at_which_its_levels_differ(size: int, fits: bool) -> None:
    problem = HSNetSettings(EncoderSettings(backbone="vgg16")).problem(size)
    assert (problem is None) == fits and HSNetSettings().problem(size) is None
    if problem is not None:
        key, message = problem
        assert key == "encoder" and "nearest size: " in message


def test_hmnet_takes_grids_of_whole_windows() -> None:
    assert HMNetSettings(grid=20).problem(473) is None
    assert HMNetSettings(grid=18).problem(473) == ("grid", "= 18 is not a multiple of 4; nearest: 16, 20")


def test_an_untrained_ensemble_has_the_meta_learners_probabilities() -> None:
    torch.manual_seed(0)
    meta = torch.randn(2, 2, 5, 5)
    torch.testing.assert_close(Ensemble()(meta, torch.randn(2, 16, 5, 5), torch.rand(2), None), meta.softmax(dim=1))


def test_each_of_three_shots_has_the_weight_of_its_distance_in_any_order() -> None:
    torch.manual_seed(0)
    weights, distance = ShotWeights(3), torch.tensor([[0.1, 0.4, 0.9]])
    for order in permutations(range(3)):  # two of them are not their own inverse
        torch.testing.assert_close(weights(distance[:, order]), weights(distance)[:, order])


def test_vgg_takes_torchvisions_names_and_refuses_weights_with_batch_norm() -> None:
    with torch.device("meta"):
        encoder = build_encoder(EncoderSettings("vgg16"), variant=HSNet.wants.variant)
    names = encoder.own_names(
        {f"features.{i}.weight": torch.empty(0) for i in (0, 7, 17, 28)} | {"classifier.0.bias": 1}
    )
    assert set(names) == {"layer0.0.weight", "layer1.2.weight", "layer3.0.weight", "layer4.4.weight"}
    with pytest.raises(ModelMismatch, match="not weights of this encoder"):
        load_encoder(encoder, bare_encoder("vgg16", "plain").state_dict(), partial=False)


def test_models_are_related_to_those_they_extend_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(contract.METHODS, "own", type("Own", (contract.METHODS["symnet"],), {}))
    assert related("symnet", "own") and related("own", "symnet") and related("ssp", "ssp")
    assert not related("symnet", "hdmnet") and not related("own", "prototype")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda x: x.logits, "Identity .*linear.py.: predict's output is a Tensor; return Output"),
        (lambda x: replace(x, logits=x.logits[:, :1]), r"has logits of shape \(2, 1, 9, 9\); return \(B, 2, S, S\)"),
        (lambda x: replace(x, extra={"p": x.logits[:, 0]}), r"has p of shape \(2, 9, 9\); .* other maps as pictures"),
        (lambda x: replace(x, losses={}), "has no losses in training"),
        (lambda x: replace(x, losses={"main": 1.0}), r"has losses\['main'\] of type float"),
        (
            lambda x: replace(x, losses={"main": torch.ones(2)}),
            r"has losses\['main'\] of shape \(2,\); return its mean",
        ),
        (lambda x: replace(x, image_losses=("mian",)), r"image_losses 'mian', which is none of its losses \(main\)"),
    ],
)
def test_an_output_with_a_mistake_is_refused_by_its_method(wrong: Callable[[Output], object], said: str) -> None:
    right = Output(torch.zeros(2, 2, 9, 9), losses={"main": torch.tensor(1.0)})
    assert checked(right, nn.Identity(), [drawn_episode("ssp", 1, 2)]) is right
    with pytest.raises(ModelMismatch, match=said):
        checked(wrong(right), nn.Identity(), [drawn_episode("ssp", 1, 2)])
