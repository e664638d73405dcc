"""Fixtures of many tests: the shared measured cases and photos (skipped visibly where absent), and a tiny data set.

Every test, in every folder, has the fixtures that are ``autouse``: they change the project in the tests' process, as
the head of a run says.
"""

import gc
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch
import yaml

from model.encoders.residual import SMALL
from model.registry import class_of
from tests.helpers import spawned
from tests.helpers.copied import Copy, copied
from tests.helpers.narrow import NARROW
from tests.helpers.paths import SHARED
from tests.helpers.pretend import PretendCuda, pretend_cuda
from util.config.compose import find_config
from util.config.read import read_config
from util.data.mini import generate
from util.loop.device import take_precision

LONG = {"process", "train", "parity", "benchmark"}  # marks of long tests


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the device of the tests of numbers."""
    text = "of golden files, measured cases and the contract: cpu, cuda, or pretend (a GPU that is not there)"
    parser.addoption("--device", default="cpu", help=text)


def pytest_report_header() -> str:
    """Say what of the project the fixtures of all tests change."""
    return "in all tests: one thread, float32"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the tests of the slowest fixtures, which one process makes then, and with the files of long tests.

    Short ones end a run, in which no process waits for another. Where another device than the CPU is named, leave out
    the tests that no device changes.
    """
    files_of_long = {item.path for item in items if any(mark.name in LONG for mark in item.iter_markers())}
    items.sort(key=lambda item: (_place(item), item.path not in files_of_long))
    if config.getoption("--device") != "cpu":
        kept = [item for item in items if {"device", "gpu"} & set(getattr(item, "fixturenames", ()))]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


def _place(item: pytest.Item) -> int:
    """Return 0 for a test in a copy of the repository, 1 for one that forks scripts, 2 for all others."""
    if "copy" in getattr(item, "fixturenames", ()):
        return 0
    return 1 if item.get_closest_marker("process") else 2


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what is imported: it stays, and reading it takes 4 % of a run."""
    gc.freeze()


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the device that ``--device`` names, which computes in full float32; for ``pretend`` a pretended cuda."""
    named = request.config.getoption("--device")
    take_precision("float32", torch.device("cpu"))  # torch's default is TF32 in a GPU's convolutions
    if named != "pretend":
        yield named
        return
    with pretend_cuda():
        yield "cuda"


@pytest.fixture
def gpu(request: pytest.FixtureRequest) -> Iterator[PretendCuda | None]:
    """Give the counts of a pretended GPU; None on a real one."""
    if request.config.getoption("--device") == "cuda":
        yield None
        return
    with pretend_cuda() as counts:
        yield counts


@pytest.fixture(autouse=True)
def one_thread_in_float32() -> None:
    """Take one thread and full float32, whatever a command that ran before has set.

    The threads of small networks wait for each other.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.set_float32_matmul_precision("highest")


@pytest.fixture(autouse=True)
def only_marked_tests_spawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``spawned`` refuse to start a process for a test without the mark ``process``, which --quick leaves out."""
    monkeypatch.setattr(spawned, "allowed", request.node.get_closest_marker("process") is not None)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of measured cases and real photos."""
    if not (SHARED / "parity").is_dir():
        pytest.skip(f"no measured cases at {SHARED} (set SYMNET_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def mini_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny drawn data set in VOC layout: 48 training and 32 test images of 64 pixels."""
    root = tmp_path_factory.mktemp("mini") / "mini"
    generate(root, 48, 32, 64)
    return root


@pytest.fixture(scope="session")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """Return a copy of the repository in which commands run as a user types them."""
    with copied(tmp_path_factory.mktemp("copied") / "copy") as copy:
        yield copy


def _merged(old: dict, new: dict) -> dict:
    """Return a section with the values of another one over it, the encoder's among them each by its name."""
    both = {**old, **new}
    if isinstance(old.get("encoder"), dict) and isinstance(new.get("encoder"), dict):
        both["encoder"] = {**old["encoder"], **new["encoder"]}
    return both


@pytest.fixture
def mini_yaml(tmp_path: Path, mini_root: Path):
    """Return a function that writes a config of seconds' length over mini, with random weights, and gives its path."""

    def write(method: str = "symnet", net: str = "resnet10", **sections: dict) -> Path:
        source = find_config("split0", "mini", method, net)
        content = {
            "base": [str(file.resolve()) for file in source.files],
            "run": {"folder": f"{tmp_path}/runs", "name": "tiny", "device": "cpu"},
            "data": {"root": str(mini_root), "cache": f"{tmp_path}/cache", "min_pixels": 100},
        }
        if source.encoder:
            content["net"] = source.encoder.value
        model = read_config(source).model
        model_class = class_of(model)
        content["data"]["size"] = next(side for side in model_class.sizes_around(33, model) if side >= 33)
        if model.encoder.backbone in (SMALL, "resnet18"):
            content["model"] = {"encoder": {"backbone": NARROW, "weights": None}}
        stage = {"epochs": 1, "batch": 4, "validate_every": 1, "validate_episodes": 4}
        if model_class.has_base_stage():
            content["base_stage"] = {**stage, "size": 33}
        if model_class.learns:
            content["meta_stage"] = dict(stage)
        for name, values in sections.items():
            content[name] = _merged(content.get(name, {}), values)
        for name in ("base_stage", "meta_stage"):
            if name in content and not content[name].get("validate_every", 1):
                content[name].pop("validate_episodes", None)  # without effect
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.fixture
def mini_config(mini_yaml):
    """Return a function that gives such a config, read."""
    return lambda *words, **sections: read_config(mini_yaml(*words, **sections))
