"""The commands on a GPU: one that is not there, or with ``--device cuda`` a real one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from photos import Segmenter
from tests.helpers.narrow import NARROW
from tests.helpers.scored import score
from tests.helpers.trained import train_stage
from util.config.read import read_config
from util.config.settings import Config
from util.loop.interrupt import Interrupt
from util.weights import checkpoint

pytestmark = pytest.mark.train


def interrupt_at_once(monkeypatch) -> None:
    """Let a training have its signal before its first step."""
    enter = Interrupt.__enter__

    def at_once(self):
        enter(self)
        self.requested = True
        return self

    monkeypatch.setattr(Interrupt, "__enter__", at_once)


def on_cpu(path: Path) -> bool:
    """Return whether a checkpoint's tensors are on the CPU, as its file says."""
    devices = set()

    def note(storage: torch.UntypedStorage, device: str) -> torch.UntypedStorage:
        devices.add(device)
        return storage

    torch.load(path, map_location=note, weights_only=True)
    return devices == {"cpu"}


@pytest.fixture
def path(mini_yaml) -> Path:
    """Return the config of a run of both stages on the GPU, of one step and of two."""
    meta = {"epoch_length": 8, "accumulate": 2, "ema_decay": 0.9, "validate_every": 0.5, "validate_episodes": 2}
    return mini_yaml(
        run={"device": "cuda"},
        meta_stage=meta,
        base_stage={"epoch_length": 4, "validate_episodes": 2},
        test={"episodes": 3, "batch": 2},
    )


def waits_in(gpu, *places: str) -> dict[str, int]:
    """Return how often files of the project waited for a GPU, by line."""
    return {at: count for (at, _), count in gpu.waits.items() if at.startswith(places)}


def test_both_stages_their_resumption_tests_and_predictions(
    path: Path, tmp_path: Path, mini_root: Path, gpu, monkeypatch
):
    assert train_stage("base", read_config(path)) == 0
    with monkeypatch.context() as patched:
        interrupt_at_once(patched)
        assert train_stage("meta", read_config(path)) == 130
    if gpu:
        gpu.waits.clear()
    assert train_stage("meta", read_config(path), resume=True) == 0
    if gpu:  # one wait for the one step that was left
        waits = waits_in(gpu, "util/loop/train", "util/train/bookkeeping")
        assert sum(waits.values()) == 1, waits
    folder = tmp_path / "runs/tiny/meta"
    assert on_cpu(folder / "best.pth")
    assert checkpoint.read(folder / "last.pth").entries["progress"]["step"] == 2
    check_tests(path, gpu)
    first, *_, last = sorted((mini_root / "JPEGImages").iterdir())
    supports = [(np.asarray(Image.open(photo)), "box=5,5,40,40") for photo in (first, last)]
    segmenter = Segmenter({"thing": supports}, checkpoint=folder / "best.pth", device="cuda")
    assert segmenter(first).mask.shape == supports[0][0].shape[:2]


def check_tests(path: Path, gpu) -> None:
    """Score the trained network in several ways; count the waits of the first."""

    def config(*changes: str) -> Config:
        return read_config(path, list(changes))

    if gpu:
        gpu.waits.clear()
    (result,) = score(config("test.metrics=[boundary_iou]"))
    if gpu:  # one for the first prediction, one for the last, one for the counts of each of three outputs
        waits = waits_in(gpu, "util/loop/score")
        assert 0 < sum(waits.values()) <= 6, waits
    tf32 = "tf32" if gpu or torch.cuda.get_device_capability() >= (8, 0) else "float32"
    assert [stage["precision"] for stage in result["training"]] == [tf32, tf32]
    assert result["precision"] == "float32" and result["per_seed"]
    score(config("run.precision=bf16"), protocols=["symnet", "2way"])


SHORT = {"epoch_length": 4, "validate_every": 0}  # one step


def test_pocket(mini_yaml, gpu) -> None:
    path = mini_yaml(
        "pocket",
        run={"device": "cuda", "precision": "auto"},
        test={"episodes": 2},
        model={"encoder": {"backbone": NARROW, "weights": None}},
        meta_stage=SHORT,
    )
    assert train_stage("meta", read_config(path)) == 0
    (result,) = score(read_config(path))
    bf16 = "bf16" if gpu or torch.cuda.get_device_capability() >= (8, 0) else "float32"
    assert (result["training"][0]["precision"], result["precision"]) == (bf16, "float32")


def test_fp16(mini_yaml, gpu) -> None:
    path = mini_yaml(
        "ssp",
        run={"device": "cuda", "precision": "fp16"},
        meta_stage=SHORT,
        model={"encoder": {"backbone": "timm/test_resnet", "weights": None}},
        data={"shot": 2},
    )
    assert train_stage("meta", read_config(path)) == 0
