"""Protocols share a pass of the network, and features of images, only where no setting that decides them differs."""

from dataclasses import field, fields, make_dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers.read import config_of
from util.config.settings import EPISODES, LIST, NUMBER, SCORE, VIEW, ProtocolSettings
from util.evaluate.scoring import passes
from util.evaluate.store import _supports_of
from util.run.input_size import view_of

PLAIN = ProtocolSettings(input="stretch", side=81)
OTHER = {  # another value of every setting, by what it decides
    EPISODES: {
        "query": "random",
        "supports": "first",
        "draw": "hsnet",
        "ways": 2,
        "references": 2,
    },
    LIST: {"list_file": "val.txt"},  # whose digest tells
    VIEW: {"input": "letterbox", "side": 97, "smooth": True},
    NUMBER: {"episodes": 7, "seeds": [7]},  # all begin with the same episodes
    SCORE: {"scored_on": "original"},
}


def passes_of(protocol: ProtocolSettings, digest: str = "one") -> int:
    """Return the number of passes of a protocol on the list of a digest and of a plain one, of one seed."""
    scorings = []
    for each, of_list in ((PLAIN, "one"), (protocol, digest)):
        images = SimpleNamespace(digest=of_list)
        evaluation = SimpleNamespace(
            protocol=each, samplers={0: None}, shot=1, view="one", images=images, replayed=None
        )
        scorings.append(SimpleNamespace(evaluation=evaluation, prepared=None))
    return len(passes(scorings))


@pytest.mark.parametrize("what", OTHER)
def test_every_setting_states_what_it_decides(what: str) -> None:
    assert PLAIN.choosing(what).keys() == OTHER[what].keys()
    for key, value in OTHER[what].items():
        changed = replace(PLAIN, **{key: value})
        assert passes_of(changed) == (2 if what == EPISODES else 1)
        changes_view = _view(changed) != _view(PLAIN)
        assert changes_view == (what == VIEW)
    assert passes_of(PLAIN, digest="other") == 2


def test_a_kept_support_is_of_all_classes_whose_pixels_its_label_ignores() -> None:
    keys = []
    for classes in ((1, 2), (1, 3), (1, 2)):
        ways = [SimpleNamespace(class_id=[c], supports_of=lambda item: [None]) for c in classes]
        first, _ = _supports_of(SimpleNamespace(ways=ways, rows=[(0, 1, 2)]), with_rows=False)
        keys.append(first.key)
    assert keys[0] == keys[2] != keys[1]


def _view(protocol: ProtocolSettings) -> Any:
    return view_of(config_of("split0", "mini", "ssp"), protocol)


def test_a_protocol_setting_must_say_which_passes_it_chooses() -> None:
    assert sum(map(len, OTHER.values())) == len(fields(ProtocolSettings))
    silent = make_dataclass("Silent", [("new", int, field(default=0))], bases=(ProtocolSettings,), frozen=True)
    with pytest.raises(KeyError, match="chooses"):
        passes_of(silent())
