"""INSID3 beyond its measured cases: refused sizes, images of several sizes, and the basis of each."""

import dataclasses

import torch

from model.episode import Episode, EpisodeOfOriginalSizes
from model.insid3.insid3 import INSID3Settings
from tests.helpers.close import close
from tests.model.small import SETTINGS, drawn_episode, small_model


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
    encoded = []  # of every image, whether it is black
    network.encoder.register_forward_pre_hook(
        lambda _, images: encoded.extend(len(image.unique()) <= 3 for image in images[0])
    )
    first = network(episode)
    assert len(encoded) == 4 + 1 and sum(encoded) == 1 and SETTINGS["insid3"]["components"]
    again = network(episode)
    assert sum(encoded) == 1 and close(again.logits, first.logits)
    assert set(first.maps) == {"sim_forward", "candidates", "cluster_score"}
    assert all(m.shape == (2, 5, 5) and m.min() >= 0 and m.max() <= 1 for m in first.maps.values())
    network.encoder.load_state_dict(small_model("insid3", 1, seed=1).encoder.state_dict())
    network(episode)
    assert sum(encoded) == 2  # other weights have another basis
