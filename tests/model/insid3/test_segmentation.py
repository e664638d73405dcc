"""INSID3 beyond its measured cases: empty supports, ignored pixels, other grids, several classes, refused sizes."""

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional as F

from model.episode import Episode, EpisodeOfOriginalSizes
from model.insid3.insid3 import INSID3Settings
from model.insid3.segmentation import Patches, Reference, Segmentation, class_logits, segment
from tests.model.small import SETTINGS, drawn_episode, small_model

CHANNELS, SIDE = 12, 6
CANVAS = (48, 48)
TAU, MERGE = 0.6, 0.05


def _features(seed: int, side: int = SIDE) -> Tensor:
    """Return unit features (C, side, side) of a left and a right half, with noise around two directions."""
    random = torch.Generator().manual_seed(seed)
    x = 0.1 * torch.randn(CHANNELS, side, side, generator=random)
    x[0, :, : side // 2] += 1
    x[1, :, side // 2 :] += 1
    return F.normalize(x, dim=0)


def _half(left: bool, canvas: tuple[int, int] = CANVAS) -> Tensor:
    mask = torch.zeros(canvas, dtype=torch.uint8)
    mask[:, : canvas[1] // 2] = 1
    return mask if left else 1 - mask


def _reference(seed: int, left: bool, side: int = SIDE) -> Reference:
    return Patches.of(_features(seed, side), None), _half(left).bool()


def _segment(*classes: list[Reference], target: int = 0) -> Segmentation:
    return segment([Patches.of(_features(target), None)], [classes], TAU, MERGE)[0]


def test_classes_share_the_clusters_and_compete_for_them() -> None:
    left, right = [_reference(1, left=True)], [_reference(2, left=False)]
    found = _segment(left, right, [])
    assert found.classes[:, 0].unique().tolist() == [1] and found.classes[:, -1].unique().tolist() == [2]
    assert torch.equal(_segment(right, left).classes, torch.tensor([0, 2, 1])[found.classes])
    assert _segment(left, left).classes.unique().tolist() == [0, 1]  # ties go to the lowest class
    assert class_logits(found.classes, 3, CANVAS).argmax(0).unique().tolist() == [1, 2]


def _settings(**changes: object) -> INSID3Settings:
    settings = INSID3Settings(**changes)
    settings.encoder.backbone, settings.encoder.output_stride = "resnet10", 16
    return settings


def test_sides_with_too_many_patches_or_too_few_are_refused() -> None:
    assert _settings().problem(1600) is None
    assert _settings().problem(1601)[0] == "stage"
    assert _settings(components=30).problem(65)[0] == "components"


def test_images_of_their_own_sizes_give_the_same_as_in_a_batch() -> None:
    network, episode = small_model("insid3", 2), drawn_episode("insid3", 2, 1)
    values = {f.name: getattr(episode, f.name) for f in dataclasses.fields(Episode)}
    values |= {name: list(values[name].unbind(1)) for name in ("support", "support_label")}
    torch.testing.assert_close(network(EpisodeOfOriginalSizes(**values)).logits, network(episode).logits)
    values["support"][0], values["support_label"][0] = (
        values["support"][0][..., :25],
        values["support_label"][0][..., :25],
    )
    assert network(EpisodeOfOriginalSizes(**values)).logits.shape == (1, 2, *episode.query.shape[-2:])


def test_the_basis_is_found_once_for_each_size_and_state_of_the_encoder() -> None:
    network, episode = small_model("insid3", 1), drawn_episode("insid3", 1, 2)
    encoded: list[bool] = []  # of every image, whether it is black
    network.encoder.register_forward_pre_hook(
        lambda _, images: encoded.extend(len(image.unique()) <= 3 for image in images[0])
    )
    first = network(episode)
    assert encoded == [False] * 4 + [True] and SETTINGS["insid3"]["components"]
    again = network(episode)
    assert sum(encoded) == 1 and torch.equal(first.logits, again.logits)
    assert set(first.maps) == {"sim_forward", "candidates", "cluster_score"}
    assert all(m.shape == (2, 5, 5) and m.min() >= 0 and m.max() <= 1 for m in first.maps.values())
    network.encoder.load_state_dict(small_model("insid3", 1, seed=1).encoder.state_dict())
    network(episode)
    assert sum(encoded) == 2  # other weights have another basis
