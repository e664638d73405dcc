"""The multi-prototype baseline: its points, its k-means, its scores, and the plain prototype as its case k = 1."""

import dataclasses

import torch

from model.baselines.multiprototype import class_scores, points_of, spherical_kmeans
from tests.model.small import drawn_episode, small_model


def test_classes_share_the_background_of_all_supports() -> None:
    network, one = small_model("multiprototype", 1), drawn_episode("multiprototype", 1, batch=1)
    other = drawn_episode("multiprototype", 1, batch=1, seed=1)
    other = dataclasses.replace(other, query=one.query)
    logits = network.forward_classes([one, other]).logits
    features, shots = network.encode_each(one, network.compared)
    shots += network.encode_each(other, network.compared)[1]
    supports = [(f[0], label[0]) for f, label in shots]
    points = [points_of([own], [c])[0][0] for own, c in ((supports, 0), (supports[:1], 1), (supports[1:], 1))]
    centres = [spherical_kmeans(p, network.settings.k) for p in points]
    torch.testing.assert_close(logits[0], class_scores(features[0], centres, one.query.shape[-2:], "max_mean"))
