"""Loader processes that cannot pass a batch on: a line with the cause, where the main process would wait for ever."""

import errno
import gc
import multiprocessing
import resource
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from model.episode import Batch
from util.files.errors import UserError
from util.loop import loading
from util.loop.loading import batches

pytestmark = pytest.mark.process
LARGE = 2**19  # numbers, of 2 MiB


@dataclass
class Photo(Batch):
    image: Tensor


class Photos(Dataset):
    """Photos of ``LARGE`` numbers."""

    def __getitem__(self, number: int) -> Photo:
        return Photo(torch.zeros(LARGE))


@contextmanager
def limit(kind: int, most: int) -> Iterator[None]:
    """Limit what this process and those that it starts may take."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def loaded(count: int) -> Generator[Photo, None, None]:
    return batches(Photos(), [[number] for number in range(count)], 1, torch.device("cpu"))


def test_a_temporary_folder_of_too_long_a_name(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / ("scratch_of_the_job_" * 5)
    folder.mkdir()
    monkeypatch.setitem(multiprocessing.current_process()._config, "tempdir", str(folder))  # as TMPDIR at the start
    with pytest.raises(UserError, match=r"cannot pass a batch on \(AF_UNIX path too long\): name a shorter TMPDIR"):
        next(loaded(3))


def test_a_loader_process_that_cannot_be_started_takes_the_others_along(monkeypatch) -> None:
    start = BaseProcess.start
    started: list[BaseProcess] = []

    def start_first(process: BaseProcess) -> None:
        if started:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        started.append(process)
        start(process)

    printed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)  # "Exception ignored in"
    monkeypatch.setattr(BaseProcess, "start", start_first)
    monkeypatch.setattr(loading, "usable_cores", lambda: 2)
    stream = batches(Photos(), [[0], [1]], 2, torch.device("cpu"))
    with pytest.raises(UserError, match=r"cannot be started \(Cannot allocate memory\): lower data.workers"):
        next(stream)
    started[0].join(10)
    assert started[0].exitcode == -signal.SIGKILL
    del stream
    gc.collect()
    assert not printed


def test_no_room_for_shared_memory() -> None:
    with limit(resource.RLIMIT_FSIZE, 2**20), pytest.raises(UserError, match=r"cannot pass .*give /dev/shm more space"):
        next(loaded(3))


def test_too_few_open_files() -> None:
    with closing(loaded(40)) as stream:
        next(stream)
        used = len(list(Path("/proc/self/fd").iterdir()))
        with limit(resource.RLIMIT_NOFILE, used), pytest.raises(UserError, match=r"cannot pass .*ulimit -n"):
            list(stream)
