"""INSID3 beyond its measured cases: empty supports, ignored pixels, other grids, several classes, refused sizes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from model.common.ops import unit
from model.episode import IGNORE, Episode, EpisodeOfOriginalSizes
from model.insid3 import candidates
from model.insid3.candidates import Reference, find_candidates
from model.insid3.clusters import clusters_of
from model.insid3.insid3 import INSID3Settings
from model.insid3.positional_basis import debiased, positional_basis
from model.insid3.segmentation import Segmentation, Target, class_logits, segment
from model.mismatch import Mismatch
from tests.model.small import SETTINGS, drawn_episode, small_model
from tests.parity_case import insid3_case

CHANNELS, SIDE = 12, 6
CANVAS = (48, 48)
TAU, MERGE = 0.6, 0.05
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def _features(seed: int, side: int = SIDE) -> Tensor:
    """Return unit features (C, side, side) of a left and a right half, with noise around two directions."""
    random = torch.Generator().manual_seed(seed)
    x = 0.1 * torch.randn(CHANNELS, side, side, generator=random)
    x[0, :, : side // 2] += 1
    x[1, :, side // 2 :] += 1
    return unit(x, dim=0)


def _half(left: bool, canvas: tuple[int, int] = CANVAS) -> Tensor:
    mask = torch.zeros(canvas, dtype=torch.uint8)
    mask[:, : canvas[1] // 2] = 1
    return mask if left else 1 - mask


def _reference(seed: int, left: bool, side: int = SIDE) -> Reference:
    reference = Reference.of(_features(seed, side), _half(left), None)
    assert reference is not None
    return reference


def _segment(*classes: list[Reference], target: int = 0) -> Segmentation:
    return segment(Target.of(_features(target), None), classes, TAU, MERGE)


def _case(shots: int, seed: int = 0, **changes: object) -> dict[str, np.ndarray]:
    """Return the inputs of a case as the files have them, with a basis of two directions."""
    random = np.random.default_rng(seed)
    given = {
        "ref_features": np.stack([_features(seed + 1 + k).numpy() for k in range(shots)]),
        "target_features": _features(seed).numpy(),
        "blank_features": random.standard_normal((CHANNELS, SIDE, SIDE)),
        "ref_masks": np.stack([_half(left=True).numpy()] * shots),
        "canvas": np.array(CANVAS),
        "components": 2,
        "tau": TAU,
        "merge": MERGE,
    }
    return {name: np.asarray(value) for name, value in (given | changes).items()}


# --- the mask --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shots", [1, 2, 5])
@pytest.mark.parametrize("left", [True, False])
def test_the_supports_half_is_found(shots: int, left: bool) -> None:
    found = _segment([_reference(1 + k, left) for k in range(shots)])
    want = torch.zeros(SIDE, SIDE, dtype=torch.int64)
    want[:, slice(0, SIDE // 2) if left else slice(SIDE // 2, None)] = 1
    assert torch.equal(found.classes, want)


def test_references_may_have_other_grids_than_the_target() -> None:
    found = _segment([_reference(1, left=True, side=9), _reference(2, left=True, side=4)])
    assert torch.equal(found.classes, _segment([_reference(1, left=True)]).classes)
    assert [int(best.max()) < side**2 for best, side in zip(found.candidates[0].best_ref, (9, 4))] == [True, True]


def test_without_references_all_is_background() -> None:
    found = _segment([])
    assert found.clusters is None and not found.classes.any()
    ours = insid3_case(_case(2, ref_masks=np.zeros((2, *CANVAS), np.uint8)))
    assert not ours["mask"].any() and not ours["mask_grid"].any() and len(ours["ref_debiased"]) == 0
    logits = class_logits(found.classes, 1, CANVAS)
    assert torch.equal(logits, torch.tensor([0.5, -0.5]).view(2, 1, 1).expand(2, *CANVAS))


def test_ignored_pixels_are_background() -> None:
    ignored, cleared = _case(1), _case(1)
    ignored["ref_masks"][0, :20] = IGNORE
    cleared["ref_masks"][0, :20] = 0
    given, want = insid3_case(ignored), insid3_case(cleared)
    assert all(np.array_equal(given[name], want[name]) for name in want)
    assert not np.array_equal(given["ref_mask_grid"], insid3_case(_case(1))["ref_mask_grid"])


def test_an_empty_reference_changes_nothing_and_the_order_of_shots_only_rounding() -> None:
    case = _case(3)
    more = dict(case)
    for name, extra in (("ref_features", _features(9).numpy()), ("ref_masks", np.zeros(CANVAS, np.uint8))):
        more[name] = np.concatenate([case[name][:1], extra[None], case[name][1:]])
    want, given = insid3_case(case), insid3_case(more)
    assert all(np.array_equal(given[name], want[name]) for name in want)
    turned = {**case, **{name: case[name][[2, 0, 1]] for name in ("ref_features", "ref_masks")}}
    given = insid3_case(turned)
    for name in ("prototype", "sim_forward", "votes", "candidates", "cluster_score", "mask"):
        np.testing.assert_allclose(given[name], want[name], **CLOSE)


def test_the_mask_is_where_the_foreground_logit_is_larger() -> None:
    classes = torch.randint(0, 2, (SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    logits = class_logits(classes, 1, CANVAS)
    share = torch.nn.functional.interpolate(classes[None, None].float(), CANVAS, mode="bilinear")[0, 0]
    torch.testing.assert_close(logits, torch.stack([0.5 - share, share - 0.5]))
    assert torch.equal(logits.argmax(0), (share > 0.5).long())


def test_classes_share_the_clusters_and_compete_for_them() -> None:
    left, right = [_reference(1, left=True)], [_reference(2, left=False)]
    found = _segment(left, right, [])
    assert found.classes[:, 0].unique().tolist() == [1] and found.classes[:, -1].unique().tolist() == [2]
    assert torch.equal(_segment(right, left).classes, torch.tensor([0, 2, 1])[found.classes])
    assert _segment(left, left).classes.unique().tolist() == [0, 1]  # ties go to the lowest class
    assert class_logits(found.classes, 3, CANVAS).argmax(0).unique().tolist() == [1, 2]


# --- steps -----------------------------------------------------------------------------------------------------------


def test_blocks_of_the_backward_match_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    target, reference = Target.of(_features(0), None), _reference(1, left=True)
    whole = find_candidates(target.debiased, [reference])
    monkeypatch.setattr(candidates, "BLOCK_ELEMENTS", 5 * SIDE**2)
    apart = find_candidates(target.debiased, [reference])
    assert torch.equal(whole.best_ref[0], apart.best_ref[0]) and torch.equal(whole.votes, apart.votes)


def test_the_first_of_equal_patches_is_the_best() -> None:
    same = Reference(torch.ones(4, 1), torch.tensor([True, False, False, False]))
    assert find_candidates(torch.ones(3, 1), [same]).best_ref[0].tolist() == [0, 0, 0]


def test_clusters_are_those_of_average_linkage_position_by_position() -> None:
    x = unit(torch.randn(16, 4, generator=torch.Generator().manual_seed(1)), dim=1)
    tau, distance = 0.3, 1 - (x.double() @ x.double().T).numpy()
    groups = [[i] for i in range(len(x))]
    while len(groups) > 1:
        pairs = [(i, j) for i in range(len(groups)) for j in range(i)]
        means = [distance[np.ix_(groups[i], groups[j])].mean() for i, j in pairs]
        if min(means) >= 1 - tau:
            break
        i, j = pairs[int(np.argmin(means))]
        groups[j] += groups.pop(i)
    label = {patch: min(group) for group in groups for patch in group}
    first = list(dict.fromkeys(label[i] for i in range(len(x))))
    assert clusters_of(x, tau).tolist() == [first.index(label[i]) for i in range(len(x))]
    assert 1 < len(groups) < len(x)
    assert clusters_of(x[:1], tau).tolist() == [0]


def test_the_basis_is_removed_whatever_the_signs_of_its_vectors() -> None:
    basis = positional_basis(_features(3), 2)
    x = _features(0).flatten(1).T
    removed = debiased(x, basis)
    assert (removed @ basis.vectors).abs().max() < 1e-6
    torch.testing.assert_close(removed.norm(dim=1), torch.ones(len(x)))
    other = dataclasses.replace(basis, vectors=basis.vectors * torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(debiased(x, other), removed)
    assert debiased(x, None) is x


# --- the model -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("components", "reason"), [(CHANNELS, "12 channels"), (500, "at most 11")])
def test_too_many_components_for_the_channels_are_refused(components: int, reason: str) -> None:
    with pytest.raises(Mismatch, match=rf"model\.components = {components}: .*{reason}"):
        insid3_case(_case(1, components=components))


def test_too_many_components_for_the_patches_are_refused() -> None:
    with pytest.raises(Mismatch, match=r"model\.components = 4: an image of 4 patches has 3 directions"):
        positional_basis(_features(0, side=2), 4)
    with pytest.raises(Mismatch, match=r"model\.components = 40: an image of 25 patches"):
        small_model("insid3", 1, components=40)
    with pytest.raises(Mismatch, match=r"model\.components = 5000: the features have \d+ channels"):
        small_model("insid3", 1, components=5000)


def _settings(**changes: object) -> INSID3Settings:
    settings = INSID3Settings(**changes)
    settings.encoder.backbone, settings.encoder.output_stride = "resnet10", 16
    return settings


def test_sides_with_too_many_patches_name_one_that_fits() -> None:
    assert _settings().problem(1600) is None
    assert _settings().problem(1601) == (
        "stage",
        "= 3: 1601 px give 101 x 101 patches, and clustering takes at most 10000; set data.size to at most 1600",
    )
    assert "set data.size to at most 800" in _settings(stage=[2, 3]).problem(2000)[1]
    key, message = _settings(components=30).problem(65)
    assert key == "components" and "which have at most 24 directions" in message


def test_an_image_with_too_many_patches_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.insid3.insid3.MAX_PATCHES", 20)
    network = small_model("insid3", 1)
    with pytest.raises(Mismatch, match=r"an image gives 5 x 5 patches, and INSID3 takes at most 20; .* at most 32 px"):
        network(drawn_episode("insid3", 1, 1))


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
