"""Additions to an encoder that learn from the supports: the measured case, and all else of the network as it was."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.common.adaptation import AdaptSettings, NotLearnt, adaptable, fit, photos_of
from model.episode import IGNORE
from model.mismatch import ModelMismatch
from tests.helpers.close import all_close, close
from tests.model.seeded import seeded_model
from tests.model.small import drawn_episode
from tests.parity.check import INPUT, measured
from tests.parity.tap import tap_case

SETTINGS = AdaptSettings(steps=3, lr=1e-2, stages=2)
CONVOLUTIONS = "timm/test_efficientnet"


@pytest.mark.parity
def test_measured_case_is_reproduced(shared) -> None:
    arrays = measured("tap", "resnet_3shot")
    ours = tap_case({name.removeprefix(INPUT): a for name, a in arrays.items() if name.startswith(INPUT)})
    for name in (name for name in arrays if not name.startswith(INPUT)):
        assert abs(ours[name] - arrays[name]).max() < (1e-3 if name.startswith("logits") else 1e-4), name


@pytest.mark.parametrize(
    "name, backbone", [("pocket", CONVOLUTIONS), ("bam", "timm/test_resnet"), ("pocket", "timm/test_vit")]
)
def test_a_copy_learns_in_the_chosen_layers_alone(name: str, backbone: str) -> None:
    network = seeded_model(name, 1, backbone)
    episode = drawn_episode(name, 3, 1, size=network.task.size)
    ways = [episode, replace(episode, support_label=episode.support_label.roll(9, -1))]
    turned = [
        replace(way, support=way.support.flip(1), support_label=way.support_label.flip(1)) for way in ways
    ]  # the supports in another order
    classes = [set(label.unique().tolist()) for _, label in photos_of(ways)]
    assert [{1, 2} <= numbers for numbers in classes] == [True] * 3  # each photo once, with both classes
    before = {key: x.clone() for key, x in network.state_dict().items()}
    plain = network.forward_classes(ways).logits
    with torch.inference_mode():  # as in tests and predictions
        adapted = fit(network, ways, SETTINGS)
        again = fit(network, turned, SETTINGS)
    assert changed(network.state_dict(), before) == set()
    assert close(network.forward_classes(ways).logits, plain)
    assert not close(adapted.forward_classes(ways).logits, plain)
    assert all_close(again.state_dict(), adapted.state_dict())
    layers = adaptable(network, SETTINGS)
    expected = {f"{key}.weight" for key, module in network.named_modules() if module in layers}
    assert expected and changed(adapted.state_dict(), before) == expected


def changed(state: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    """Return the names of the tensors that differ between two state dicts of the same names."""
    assert state.keys() == other.keys()
    return {name for name, x in state.items() if not torch.equal(x, other[name])}


def test_what_cannot_be_learnt_from_is_refused() -> None:
    network = seeded_model("pocket", 1, CONVOLUTIONS)
    episode, single = (drawn_episode("pocket", shots, 1, size=network.task.size) for shots in (2, 1))
    same = (replace(episode, support_label=torch.full_like(episode.support_label, n)) for n in (0, 1, IGNORE))
    for way in (single, *same):
        with pytest.raises(NotLearnt, match="two supports"):
            fit(network, [way])
    with pytest.raises(NotLearnt, match="grew"):
        fit(network, [episode], AdaptSettings(lr=1e4, stages=2))
    for name, backbone in (("insid3", CONVOLUTIONS), ("pocket", "resnet10"), ("hsnet", "timm/test_resnet")):
        with pytest.raises(ModelMismatch, match="no gradient" if name == "hsnet" else "no layer"):
            fit(seeded_model(name, 1, backbone), [episode], SETTINGS)
