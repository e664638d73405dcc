"""Trainings take the masks that a person confirmed; others beside them are unknown."""

import json
from pathlib import Path

import numpy as np

from annotations import recognise
from annotations.annotation import class_mask
from tests.annotations import drawn
from tests.annotations.drawn import AREAS


def test_masks_that_nobody_confirmed_are_left_out(tmp_path: Path, capsys) -> None:
    drawn.results(tmp_path)
    record = json.loads((tmp_path / "a.json").read_text())
    record["classes"][0]["by"] = "person"
    (tmp_path / "a.json").write_text(json.dumps(record))
    (photo,) = recognise.read(str(tmp_path), unconfirmed=False).photos
    values, counts = np.unique(class_mask(photo, {1: 1, 2: 2}), return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist()))[1] == AREAS["cat"]
    assert dict(zip(values.tolist(), counts.tolist()))[255] == AREAS["dog"]
    assert "left out: masks that nobody confirmed (--unconfirmed takes them) (" in capsys.readouterr().err


def test_a_photo_of_which_nothing_is_confirmed_has_no_object(tmp_path: Path) -> None:
    drawn.results(tmp_path)
    annotations = recognise.results.read_annotations(tmp_path)
    (photo,) = recognise.results.confirmed_alone(annotations).photos
    assert not photo.instances
