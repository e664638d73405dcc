"""Tests of the one reader of bytes, text and JSON: byte-order marks, pipes, devices, and JSON in the strict sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from util.data.lists.files import read_list_file
from util.data.lists.index import read_names
from util.data.lists.manifest import read_manifest
from util.errors import UserError
from util.formats.masks import read_class_names


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "marked.txt"
    path.write_text("background\ncat\ndog\n", encoding="utf-8-sig")
    assert read_class_names(path) == ["cat", "dog"]
    assert read_names(path) == ("background", "cat", "dog")
    path.write_text("a__01\nb__02\n", encoding="utf-8-sig")
    assert read_list_file(path).stems == ("a", "b")
    path.write_text('{"query": "a", "class": 1, "supports": ["b"]}\n', encoding="utf-8-sig")
    assert len(read_manifest(path).episodes) == 1


def test_two_spellings_of_a_photo_are_one_photo(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("./a\nb//c\n")
    assert read_names(path) == ("a", "b/c")
    path.write_text("a\n./a\n")
    with pytest.raises(UserError, match="names 'a' twice"):
        read_names(path)
