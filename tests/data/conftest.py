"""Fixtures that the data tests share: settings over the tiny drawn data set, made without any YAML."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from util.config.folds import Fold
from util.config.settings import DataSettings
from util.data.lists.image_list import ImageList, train_list
from util.data.lists.image_list import test_list as novel_list  # under its own name pytest would collect it
from util.data.lists.index import load_index
from util.data.mini import CLASS_NAMES


@pytest.fixture(scope="session")
def mini_data(mini_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., DataSettings]:
    """Return a function that gives mini's data settings with some of them changed."""
    cache = tmp_path_factory.mktemp("mini_cache")

    def settings(**changes: Any) -> DataSettings:
        values = {"min_pixels": 100, "exclude_novel": False, "size": 65, "text": "names", "workers": 0}
        values |= {"folds": 4, "cache": str(cache)} | changes
        return DataSettings(
            name="mini",
            root=str(mini_root),
            train_list="ImageSets/Segmentation/train.txt",
            test_list="ImageSets/Segmentation/val.txt",
            classes=list(CLASS_NAMES),
            **values,
        )

    return settings


@pytest.fixture(scope="session")
def mini_lists(mini_data) -> Callable[..., tuple[Fold, ImageList, ImageList]]:
    """Return a function that gives fold, training list and test list of mini with some settings changed."""

    def lists(**changes: Any) -> tuple[Fold, ImageList, ImageList]:
        data = mini_data(**changes)
        fold = Fold.of(data)
        train = load_index(data, "train", progress=False)
        test = load_index(data, "test", progress=False)
        return fold, train_list(train, fold, data), novel_list(test, fold, data)

    return lists


@pytest.fixture(scope="session")
def novel(mini_lists) -> ImageList:
    """Return the test list of mini's fold 0."""
    return mini_lists()[2]
