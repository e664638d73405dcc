"""Which dropouts act in a training step of every method, in its meta stage and in its base stage."""

import re
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from model.contract import Trainable
from model.dcama.dcama import DROPOUT, HEADS, attended_mask
from model.episode import Episode, LabelledImages
from model.registry import methods
from tests.model.small import drawn_episode, small_model

PROJECTIONS = {"project_query.*": (0.5, 1), "project_support.*": (0.5, 1)}
BASE_HEAD = {"base_dropout": (0.1, 1)}  # frozen in the meta stage, in which published code keeps its dropout
HEAD = {"decoder.head.dropout": (0.1, 1)}
META_STAGE = {  # method -> module, * for its numbers -> probability, number of modules
    "bam": {**PROJECTIONS, **BASE_HEAD, **HEAD},
    "dcama": {
        "aggregate.*": (0.5, 3),  # its attention
        "aggregate.*.position_dropout": (0.5, 3),
    },
    "hdmnet": {
        **PROJECTIONS,
        **BASE_HEAD,
        "match.*.dropout": (0.1, 3),
        "match.*.feed_forward.dropout": (0.1, 3),
        "pyramid.levels.*.attention.*.dropout": (0.1, 6),
        "pyramid.levels.*.feed_forward.*.dropout": (0.1, 6),
    },
    "hmnet": {**PROJECTIONS, **BASE_HEAD, **HEAD},
    "hsnet": {},
    "pfenet": {
        **PROJECTIONS,
        "enrich.auxiliary.*.dropout": (0.1, 4),
        "enrich.head.dropout": (0.1, 1),
    },
    "pocket": {},
    "sansa": {},  # the network of this test has none; test_sansa.py tests those of the published one
    "sccan": {**PROJECTIONS, **HEAD},
    "ssp": {},
    "symnet": {
        **PROJECTIONS,
        **BASE_HEAD,
        **HEAD,
        "align.dropout": (0.1, 1),
        "decoder.auxiliary.*.dropout": (0.1, 4),
    },
}
BASE_STAGE = {"base_learner.classify.*": (0.1, 1)}  # of every method that has one
FUNCTIONS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout)


class Dropouts(TorchFunctionMode):
    """Notes the dropouts that act in a network, functions of torch included, by the module that calls them."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.acting: dict[str, float] = {}
        self._inside: list[str] = []
        for name, module in network.named_modules():
            module.register_forward_pre_hook(lambda *_, name=name: self._inside.append(name))
            module.register_forward_hook(self._leaves)

    def _leaves(self, *_: Any) -> None:
        self._inside.pop()

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        options = kwargs or {}
        probability = options.get("dropout_p", 0.0)  # of an attention
        if function in FUNCTIONS and options["training"]:
            probability = options["p"]
        if function is Tensor.random_:  # DCAMA's attention on a CPU
            probability = DROPOUT
        if probability:
            self.acting[self._inside[-1]] = probability
        return function(*args, **options)


def dropouts_of(network: Trainable, batch: Episode | LabelledImages) -> dict[str, tuple[float, int]]:
    """Return the dropouts that act in a step: module -> probability, number of modules."""
    noted = Dropouts(network.train())
    with noted, torch.no_grad():
        network(batch)
    counts = Counter((re.sub(r"\.\d+", ".*", name), probability) for name, probability in noted.acting.items())
    return {name: (probability, count) for (name, probability), count in counts.items()}


def test_the_table_has_every_method_that_learns() -> None:
    assert META_STAGE.keys() == {name for name, kind in methods().items() if kind.learns}


@pytest.mark.parametrize("name", sorted(META_STAGE))
def test_each_method_drops_features_where_the_table_says(name: str) -> None:
    network = small_model(name, 1)
    episode = drawn_episode(name, 1, 2)
    assert dropouts_of(network, episode) == META_STAGE[name]
    if network.has_base_stage():
        base_label = episode.query_base_label
        assert isinstance(base_label, Tensor)
        assert dropouts_of(network.base_stage(), LabelledImages(episode.query, base_label)) == BASE_STAGE


def test_dcamas_attention_keeps_its_mean_where_random_bits_drop_its_keys() -> None:
    torch.manual_seed(0)
    query = torch.randn(1, HEADS, 1, 5).repeat(1, 1, 8192, 1)  # one position many times
    key = torch.randn(1, HEADS, 300, 5)  # 300: no multiple of the bits of a number
    value = (torch.rand(1, 300) < 0.3).float()
    whole = attended_mask(query, key, value, dropout=False)
    dropped = attended_mask(query, key, value, dropout=True)
    assert dropped.mean() == pytest.approx(whole.mean().item(), rel=0.01)
    assert dropped.unique().numel() > 8000  # every position draws anew
