"""Processes of one run that are not alike: each is refused with what differs, and nothing is written."""

from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from tests.helpers import spawned
from util.config.read import read_config
from util.files.errors import UserError
from util.loop.train import _means_over_processes
from util.run import alike
from util.run.alike import check_alike
from util.weights.origin import Origin

UNLIKE = [
    (["data.size=49"], Origin(), "data.size = 33, there 49;"),
    (["meta_stage.validate_every=0.5"], Origin(), "meta_stage.validate_every = 1.0, there 0.5;"),
    (["data.size=33"], Origin(), r"--set = \['data.size=33'\], here \[\];"),
    ([], Origin(content="b"), r"other photos or masks \(a, there b\);"),
    ([], Origin(weights="b", episode_digests=["b"]), "other episodes;"),
    (["data.root=/elsewhere", "data.cache=/tmp", "data.workers=1", "test.checkpoint=last"], Origin(weights="b"), ""),
]


@pytest.mark.parametrize(("overrides", "facts", "said"), UNLIKE)
def test_a_process_that_differs_is_named_with_what_differs(
    overrides: list[str], facts: Origin, said: str, mini_yaml, monkeypatch
):
    """The same may lie in other places."""
    monkeypatch.setattr(alike, "REGISTRIES", {})  # which has code of other tests, too
    path = mini_yaml("ssp", data={"size": 33})
    gathered: list[object] = []  # the second process tells what it has after the first one
    world = Mock(size=2, gather=lambda value: gathered.append(value) or gathered)
    check_alike(world, read_config(path), lambda: [Origin(content="a", episode_digests=["a"])])
    with pytest.raises(UserError, match=f"process 1: {said}") if said else nullcontext():
        check_alike(world, read_config(path, overrides), lambda: [facts])


@pytest.mark.process
@pytest.mark.parametrize("script", ["train.py", "test.py"])
def test_unlike_processes_all_end(script: str, mini_yaml, tmp_path: Path) -> None:
    ranks = spawned.start_ranks(2, script, mini_yaml("ssp"), own=[[], ["--set", "test.seeds=[9]"]])
    assert [rank.code for rank in ranks] == [2, 2]
    assert all("process 1: test.seeds = " in rank.stderr for rank in ranks) and not [*tmp_path.rglob("*.json")]


def test_the_mean_of_a_loss_is_over_the_processes_that_have_it() -> None:
    """The other process has the main loss alone, 3."""
    world = Mock(size=2, gather=lambda names: [names, ["main"]], sum=lambda x: x + torch.tensor([3.0, 0, 0]))
    training = Mock(world=world, interrupt=Mock(requested=False))
    means = _means_over_processes(training, {"main": torch.tensor(1.0), "rare": torch.tensor(6.0)})
    assert means == {"main": 2.0, "rare": 6.0, "total": 5.0}
