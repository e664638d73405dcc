"""INSID3 beyond its measured cases: refused sizes, images of several sizes, and the basis of each."""

import torch

from model.episode import EpisodeOfOriginalSizes
from model.insid3.insid3 import INSID3Settings
from tests.helpers.close import close
from tests.model.small import drawn_episode, small_model


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
    support, label = ([*x.unbind(1)] for x in (episode.support, episode.support_label))
    apart = EpisodeOfOriginalSizes(**vars(episode) | {"support": support, "support_label": label})
    torch.testing.assert_close(network(apart).logits, network(episode).logits)
    for images in (support, label):
        images[0] = images[0][..., :25]
    assert network(apart).logits.shape == (1, 2, *episode.query.shape[-2:])


def test_the_basis_is_found_once_for_each_size_and_state_of_the_encoder() -> None:
    network, episode = small_model("insid3", 1), drawn_episode("insid3", 1, 2)
    encoded = []
    network.encoder.register_forward_pre_hook(lambda _, given: encoded.extend(given[0]))

    def black() -> int:
        """Return how many black images were encoded, whose features are the basis."""
        return sum(len(image.unique()) <= 3 for image in encoded)

    first = network(episode)
    assert (len(encoded), black()) == (4 + 1, 1)
    assert close(network(episode).logits, first.logits)
    assert (black(), first.pictures.keys()) == (1, {"sim_forward", "candidates", "cluster_score"})
    for values in first.pictures.values():
        assert values.shape == (2, 5, 5)
        assert torch.equal(values, values.clamp(0, 1))
    network.encoder.load_state_dict(small_model("insid3", 1, seed=1).encoder.state_dict())
    network(episode)
    assert black() == 2  # other weights have another basis
