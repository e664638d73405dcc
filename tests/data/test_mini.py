"""Tests of the drawn mini data set: exact repeatability, and classes in a small one."""

from argparse import Namespace
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from util.data.mini import CLASS_NAMES, generate, run
from util.files.errors import UserError
from util.files.mask_images import read_mask

TRAIN, TEST = 24, 16  # images
SIDE = 128


def test_a_small_set_has_two_test_images_of_each_class(tmp_path: Path) -> None:
    run(Namespace(out=tmp_path / "mini", images=32))
    shown = Counter()
    for name in (tmp_path / "mini/ImageSets/Segmentation/val.txt").read_text().split():
        shown.update(np.unique(read_mask(tmp_path / f"mini/SegmentationClassAug/{name}.png")))
    assert shown.pop(0) >= min(shown.values()) >= 2
    assert len(shown) == len(CLASS_NAMES)


def test_image_depends_on_seed_and_number_only(tmp_path: Path) -> None:
    generate(tmp_path / "whole", TRAIN, TEST, SIDE)
    generate(tmp_path / "fewer", 2, 1, SIDE)
    generate(tmp_path / "other", 2, 1, SIDE, seed=1)
    for name in ("JPEGImages/mini_000002.jpg", "SegmentationClassAug/mini_000002.png"):
        assert (tmp_path / "fewer" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        assert (tmp_path / "other" / name).read_bytes() != (tmp_path / "whole" / name).read_bytes()
    assert not generate(tmp_path / "whole", TRAIN, TEST, SIDE)  # is there already
    with pytest.raises(UserError, match="holds other files"):  # other folders stay as they are
        generate(tmp_path, 1, 1, 64)
