"""Tests of published list files: three forms read without executing anything, matched against an index."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from util.config.folds import Fold
from util.data.lists.files import DICTIONARY, PAIRS, match, read_list_file
from util.data.lists.image_list import ImageList
from util.data.lists.image_list import test_list as novel_list
from util.errors import UserError


def write_pairs(path: Path, images: ImageList, form: str = "{}__{:02d}") -> Path:
    path.write_text("".join(form.format(images.index.names[r], c) + "\n" for r, c in images.pairs))
    return path


@pytest.mark.parametrize("form", ["{}__{:02d}", "{} {}", "JPEGImages/{}.jpg {}"])
def test_pairs_in_each_spelling(tmp_path: Path, novel: ImageList, form: str) -> None:
    listed = read_list_file(write_pairs(tmp_path / "fold0.txt", novel, form))
    matched = match(listed, novel.index, novel.classes)
    assert listed.form == PAIRS
    assert tuple(zip(matched.rows, matched.classes, strict=True)) == novel.pairs


def test_dictionary_counts_classes_from_zero(tmp_path: Path, novel: ImageList) -> None:
    table: dict[int, list[str]] = {}
    for row, c in novel.pairs:
        table.setdefault(c - 1, []).append(f"val2014/{novel.index.names[row]}.jpg")
    path = tmp_path / "fold0.pkl"
    path.write_bytes(pickle.dumps(table))
    listed = read_list_file(path)
    matched = match(listed, novel.index, novel.classes)
    assert listed.form == DICTIONARY
    assert sorted(zip(matched.rows, matched.classes, strict=True)) == sorted(novel.pairs)


def test_a_pickle_that_would_execute_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    path = tmp_path / "fold0.pkl"
    path.write_bytes(pickle.dumps({0: [Trap()]}))
    with pytest.raises(UserError, match="can be read safely"):
        read_list_file(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("a.jpg a.png\nb__3\n", ":2: another form"),
        ("a.jpg b.png\n", ":1: neither"),
        ("import os\n", ":1: neither"),
        ("a.jpg a.png extra\n", ":1: neither"),
    ],
)
def test_what_is_no_list_is_named_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        read_list_file(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_image_class_and_pixels_must_fit(tmp_path: Path, novel: ImageList) -> None:
    row, own = novel.pairs[0]
    other = next(c for c in novel.classes if not novel.index.areas[row, c])
    path, name = tmp_path / "list.txt", novel.index.names[row]
    for line, message in ((f"{name} 8", "not of this fold"), (f"{name} {other}", "no pixel"), ("lost 1", "not in the")):
        path.write_text(f"{name} {own}\n{line}\n")
        with pytest.raises(UserError, match=message):
            match(read_list_file(path), novel.index, novel.classes)


def test_a_run_takes_queries_pairs_and_candidates_from_the_file(tmp_path: Path, novel: ImageList, mini_data) -> None:
    half = replace(novel, listed_pairs=novel.pairs[::-2])
    path = write_pairs(tmp_path / "fold0.txt", half)
    data = mini_data(test_fold_list=str(tmp_path / "fold{fold}.txt"))
    images = novel_list(novel.index, Fold.of(data), data)
    assert images.pairs == half.pairs and images.source == str(path)
    assert list(images.queries) == list(dict.fromkeys(r for r, _ in half.pairs))
    for c in images.classes:
        assert list(images.candidates[c]) == [r for r, its in half.pairs if its == c]
    assert images.digest != novel.digest


def test_a_two_column_list_keeps_the_pixel_rule_for_candidates(tmp_path: Path, novel: ImageList, mini_data) -> None:
    rows = novel.queries[::2]
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{novel.index.names[r]}.jpg {novel.index.names[r]}.png\n" for r in rows))
    data = mini_data(test_fold_list=str(path))
    images = novel_list(novel.index, Fold.of(data), data)
    assert np.array_equal(images.queries, rows)
    for c in images.classes:
        assert set(images.candidates[c]) == set(novel.candidates[c]) & set(rows)
