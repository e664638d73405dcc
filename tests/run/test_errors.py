"""Runs that end from outside: one line with cause and place, a checkpoint that loads, no process left behind."""

import os
import resource
import shutil
import signal
import sys
from multiprocessing import active_children
from pathlib import Path

import pytest

from tests.helpers import spawned
from tests.helpers.trained import train_meta
from util.config.read import read_config
from util.data.lists.index import load_index
from util.files.errors import UserError
from util.run.folder import environment
from util.weights import checkpoint

STAGE = {"epochs": 50, "epoch_length": 40, "validate_every": 0.1, "validate_episodes": 1}


@pytest.fixture
def long(mini_yaml):
    """Return a function that writes the config of a training that would last."""
    return lambda **sections: mini_yaml("ssp", **({"meta_stage": STAGE} | sections))


def errors(*processes: spawned.Spawned) -> list[str]:
    """Return the error lines of some processes that must have ended without a traceback."""
    said = "\n".join(p.stderr for p in processes).replace("\r", "\n")
    assert "Traceback" not in said, said
    return [line for line in said.split("\n") if line.startswith("error: ")]


@pytest.fixture
def last(tmp_path: Path) -> Path:
    """Return the path of the training's last checkpoint."""
    return tmp_path / "runs/tiny/meta/last.pth"


def loadable(last: Path) -> int:
    """Return the step of the last checkpoint, whose weights must be finite."""
    content = checkpoint.read(last).entries
    assert all(w.isfinite().all() for w in content["weights"].values())
    return content["progress"]["step"]


def loader_process(pid: int) -> int:
    """Return a loader process of a training: its last child, or the last one of the process that forks them."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return loader_process(int(children[-1])) if children else pid


@pytest.mark.process
def test_a_loader_process_that_is_killed(long, last: Path) -> None:
    endless = {"epochs": 5000, "epoch_length": 8, "validate_every": 0}  # a validation has a loader process of its own
    training = spawned.start("train.py", long(data={"workers": 1}, meta_stage=STAGE | endless))
    spawned.wait_for(last.exists, training)
    os.kill(loader_process(training.process.pid), signal.SIGKILL)
    assert training.code == 2, training.stderr
    (line,) = errors(training)
    assert "a loader process failed" in line and "data.workers" in line and loadable(last)


@pytest.mark.process
def test_a_photo_that_is_damaged_in_the_middle_of_an_epoch(long, last: Path, tmp_path: Path, mini_root: Path) -> None:
    """Met by one of two processes: it names the photo, the other ends too, and neither waits for its loader."""
    photos = shutil.copytree(mini_root / "JPEGImages", tmp_path / "photos")
    path = long(data={"images": str(photos), "workers": 1})
    load_index(read_config(path).data, "train", progress=False)
    ranks = spawned.start_ranks(2, "train.py", path)
    spawned.wait_for(last.exists, *ranks)
    for photo in photos.iterdir():
        photo.write_bytes(b"no photo")
    assert [r.code for r in ranks] == [2, 2]
    lines = errors(*ranks)
    assert lines and all(str(photos) in line and "damaged" in line for line in lines) and loadable(last)


def test_a_loss_that_is_not_finite(long, last: Path) -> None:
    config = read_config(
        long(meta_stage=STAGE | {"validate_every": 0, "optimizers": {"main": {"lr": 1e18}}}, data={"workers": 1})
    )
    before = {*active_children()}  # of other tests
    with pytest.raises(UserError, match=r"^step .*not finite.*learning rate") as caught:
        train_meta(config)
    assert not last.exists() or loadable(last)
    assert caught.tb and {*active_children()} <= before  # the error that is kept keeps no loader process


def little_memory() -> None:
    """Leave room for a small step only."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))


@pytest.mark.process
def test_exhausted_memory_is_one_line(long, tmp_path: Path) -> None:
    path = long(data={"size": 1025}, meta_stage=STAGE | {"epoch_length": 8, "batch": 8})
    (line,) = errors(spawned.run("train.py", path, before=little_memory, check=2))
    assert line.startswith("error: out of memory (") and "lower meta_stage.batch" in line
    assert not list(tmp_path.rglob("*.pth"))


@pytest.mark.process
def test_two_runs_at_once_into_one_folder(long, last: Path) -> None:
    path = long()
    first = spawned.start("train.py", path)
    spawned.wait_for(last.exists, first)
    for overwrite, said in ((True, "another command is using it"), (False, "--resume")):
        with pytest.raises(UserError, match=said):
            train_meta(read_config(path), overwrite=overwrite)
    first.signal(signal.SIGINT)
    assert first.code == 130 and loadable(last)


def test_the_recorded_command_names_method_and_encoder_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL", "ssp")
    monkeypatch.setenv("NET", "")
    monkeypatch.setattr(sys, "argv", ["/a/folder/of/this/machine/train.py", "split0", "pascal", "0"])
    assert environment()["command"] == "MODEL=ssp train.py split0 pascal 0"
