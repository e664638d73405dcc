"""Loader processes that cannot meet or pass a batch on: a line with the cause."""

import multiprocessing
import resource
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from model.episode import Batch
from util.files.errors import UserError
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


@pytest.mark.parametrize("name", ["scratch_of_the_job_" * 5, "emptied"])
def test_a_temporary_folder_in_which_a_loader_process_cannot_be_met(name: str, tmp_path: Path, monkeypatch) -> None:
    """A socket's name has 107 letters; the other folder is not there, as after the end of another job."""
    folder = tmp_path / name
    if name != "emptied":
        folder.mkdir()
    monkeypatch.setitem(multiprocessing.current_process()._config, "tempdir", str(folder))  # as TMPDIR at the start
    with pytest.raises(UserError, match=r"a loader process failed .*name a TMPDIR of at most 70 letters that nothing"):
        next(loaded(3))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE])
def test_a_batch_that_cannot_be_passed_on(kind: int) -> None:
    with closing(loaded(40)) as stream:
        if kind == resource.RLIMIT_NOFILE:
            next(stream)
        most = {resource.RLIMIT_FSIZE: 2**20, resource.RLIMIT_NOFILE: len(list(Path("/proc/self/fd").iterdir()))}[kind]
        with (
            limit(kind, most),
            pytest.raises(UserError, match=r"a loader process failed .*/dev/shm .*ulimit"),
        ):
            list(stream)
