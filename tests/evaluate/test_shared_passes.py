"""Protocols share a pass of the network, and features of images, only where no setting that decides them differs."""

from dataclasses import field, fields, make_dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers.read import config_of
from util.config.settings import EPISODES, LIST, NUMBER, SCORE, VIEW, ProtocolSettings
from util.evaluate.scoring import passes
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


def passes_of(protocol: ProtocolSettings) -> int:
    """Return the number of passes of a protocol and a plain one on one list, of one seed."""
    scorings = []
    for each in (PLAIN, protocol):
        images = SimpleNamespace(digest="one")
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


def _view(protocol: ProtocolSettings) -> Any:
    return view_of(config_of("split0", "mini", "ssp"), protocol)


def test_a_protocol_setting_must_say_which_passes_it_chooses() -> None:
    assert sum(map(len, OTHER.values())) == len(fields(ProtocolSettings))
    silent = make_dataclass("Silent", [("new", int, field(default=0))], bases=(ProtocolSettings,), frozen=True)
    with pytest.raises(KeyError, match="chooses"):
        passes_of(silent())
