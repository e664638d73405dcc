"""Copies of photos are equal files, versions are known by their names; a split parts neither."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.copies import photo_groups
from tests.datasets.class_trees import disc, save, save_grey, save_photo
from tests.datasets.printed import assert_done
from tests.datasets.test_custom_split import lists_of, photos_of_sides, write_masks
from util.data.lists.index import Index


def test_two_people_s_masks_of_an_object_are_told_from_two_classes(prepare, project: Path, tmp_path: Path) -> None:
    for number in range(8):
        save_photo(tmp_path / f"photos/p{number}.jpg", number)
        for shift, name in enumerate(("alice", "bob")):
            save_grey(tmp_path / f"masks/{name}/p{number}.png", np.roll(disc(number), shift, axis=1))
        save_grey(tmp_path / f"masks/cup/p{number}.png", ~disc(number) if number in (2, 5) else disc(number + 9))
    made = prepare("custom", "--name", "pets", "--images", f"{tmp_path}/photos", "--masks", f"{tmp_path}/masks")
    assert_done(made)
    assert "'alice' and 'bob' are two classes of nearly the same pixels" in made.errors
    assert "2 of 8 masks of 'cup' cover the photo's edges, as if inverted: cup/p2, cup/p5;" in made.errors
    assert made.errors.count("cup") == 3


def film(folder: Path, names: list[str]) -> tuple[object, ...]:
    """Write photos that look alike where names begin alike, and masks of two classes; return the command's words."""
    for number, name in enumerate(names):
        shade = cv2.resize(np.random.default_rng([*name[:5].encode()]).integers(0, 255, (4, 4, 3), np.uint8), (60, 60))
        save(folder / f"photos/{name}.png", shade // 2 + np.uint8(number))
    return (
        "custom",
        "--name",
        "pets",
        "--images",
        folder / "photos",
        *write_masks(folder, dict.fromkeys(names, (1, 2))),
    )


FRAMES = [f"clip{n // 4}_{n:03d}" for n in range(20)]
TURNS = [f"{n}{turn}" for n in range(20) for turn in ("", "_hflip", "_rot-90", "_vertical_flip_aug2")]
VERSIONS = [f"{n}_jpg.rf.{letter}{n:031x}" for n in range(12) for letter in "abc"]  # as Roboflow names them


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        (FRAMES, (), "20 photos in 5 groups"),
        (FRAMES, ("--group", ".+"), ""),
        (FRAMES[:12], (), "photos such as clip0_000 look like frames of a film; together they would leave"),
        ([f"{n:05d}" for n in range(20)], (), ""),
        (TURNS, (), "80 photos in 20 groups"),
        (VERSIONS, (), "36 photos in 12 groups"),
        ([f"2026_aug_{n}" for n in range(20)], (), "look like frames of a film; together"),
        ([f"{n:02d}_{letter}" for letter in "ab" for n in range(8)], ("--group", r"^\d+"), "16 photos in 8 groups"),
    ],
)
def test_photos_of_a_group_by_their_names_stay_together(
    *, prepare, project: Path, tmp_path: Path, names: list[str], options: tuple[str, ...], said: str
) -> None:
    made = prepare(*film(tmp_path, names), "--folds", 2, *options)
    said_in = [line for line in (made.output + made.errors).splitlines() if "together" in line]
    assert (said in said_in[0]) if said else not said_in
    train, test = photos_of_sides(lists_of(project))
    assert test and not (said.endswith("groups") and train & test)


def test_what_is_no_pattern_of_names_is_refused(prepare, project, tmp_path: Path) -> None:
    assert "--group (: is no regular expression" in prepare(*film(tmp_path, FRAMES), "--group", "(").error


@pytest.mark.parametrize("copied", [True, False])
def test_a_copy_of_a_version_joins_all_versions(copied: bool, tmp_path: Path, monkeypatch) -> None:
    names = ["a.rf.1", "a.rf.2", "b", "c.rf.3"]
    digests = ["1", "2", "2" if copied else "3", "4"]
    images = [tmp_path / f"{name}.jpg" for name in names]
    index = Index(tuple(names), np.zeros((4, 2)), tuple(images), (), "")
    monkeypatch.setattr(Index, "photo_digest", lambda self, row: digests[row])
    assert sorted(photo_groups(index)) == ([[0, 1, 2], [3]] if copied else [[0, 1], [2], [3]])
