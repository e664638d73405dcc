"""The training-free baselines: prototypes, several prototypes, the linear probe."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from model.baselines import probe
from model.baselines.multiprototype import class_scores, spherical_kmeans
from model.baselines.probe import fit
from model.episode import IGNORE
from tests.helpers.close import close
from tests.model.small import drawn_episode, small_model


@torch.no_grad()
def test_several_stages_are_concatenated() -> None:
    episode = drawn_episode("prototype", shots=1, batch=2)
    alone, listed, both = (small_model("prototype", 1, stage=stage) for stage in (3, [3], [3, 4]))
    assert close(listed(episode).logits, alone(episode).logits)
    maps = [both._read(images) for images in (episode.query, episode.support[:, 0])]
    query, support = (torch.cat([x[3], x[4]], dim=1) for x in maps)
    mask = F.interpolate((episode.support_label == 1).float(), support.shape[-2:], mode="bilinear", align_corners=True)
    prototype = (support * mask).sum((2, 3)) / (mask.sum((2, 3)) + 5e-4)
    cosine = F.cosine_similarity(query, prototype[:, :, None, None], dim=1)[:, None]
    want = F.interpolate(cosine, episode.query.shape[-2:], mode="bilinear", align_corners=True)
    torch.testing.assert_close(both(episode).logits[:, 1:], want, atol=1e-5, rtol=1e-4)


def test_classes_share_the_background_of_all_supports() -> None:
    network, one = small_model("multiprototype", 1), drawn_episode("multiprototype", 1, batch=1)
    other = drawn_episode("multiprototype", 1, batch=1, seed=1)
    other = dataclasses.replace(other, query=one.query)
    logits = network.forward_classes([one, other]).logits
    shots = [network.encode_supports(x.support[:, 0], x.support_label[:, 0])[0] for x in (one, other)]
    background = torch.cat([shot.features[shot.is_background] for shot in shots])
    objects = [shot.features[shot.is_object] for shot in shots]
    centres = [spherical_kmeans(points, network.settings.k) for points in (background, *objects)]
    query = network.compared(network._read(one.query))[0]
    torch.testing.assert_close(logits[0], class_scores(query, centres, one.query.shape[-2:]))


def test_an_object_is_no_background_where_its_image_supports_another_class() -> None:
    first, second = (drawn_episode("probe", 2, 1, seed) for seed in (1, 2))
    second.support[:, 0] = first.support[:, 0]
    images, labels = zip(*((x.image[0], x.label[0]) for x in (*first.supports_of(0), *second.supports_of(0))))
    joint = probe.joint_labels([1, 1, 2, 2], images, labels)
    of_first, of_second = first.support_label[0, 0], second.support_label[0, 0]
    only_second = (of_first == 0) & (of_second == 1)
    assert only_second.any()
    assert (joint[0][only_second] == IGNORE).all()
    no_object = (of_first != 1) & (of_second != 1)
    for number, label, annotation in ((1, joint[0], of_first), (2, joint[2], of_second)):
        assert torch.equal(label == number, annotation == 1)
        assert torch.equal(label == 0, no_object & (annotation == 0))


def test_photos_that_share_kept_supports_share_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    network, episode, fits = small_model("probe", 2), drawn_episode("probe", 2, 1), []
    monkeypatch.setattr(probe, "fit", lambda *given: fits.append(0) or fit(*given))
    alone = network(episode).logits
    episode.shots = network.encode_supports(episode.support[0], episode.support_label[0])
    for _ in range(2):
        torch.testing.assert_close(network(episode).logits, alone)
    assert len(fits) == 2  # of the supports as images, and of those that were encoded
    episode.support_label = 1 - episode.support_label.clamp(max=1)  # the same images may support another class
    episode.shots = network.encode_supports(episode.support[0], episode.support_label[0])
    assert not torch.allclose(network(episode).logits, alone) and len(fits) == 3
