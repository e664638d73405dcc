"""Tests of the one reader of bytes, text and JSON: byte-order marks, pipes, devices, and JSON in the strict sense."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from util.data.index import load_index, read_names
from util.data.list_files import read_list_file
from util.data.manifest import read_manifest
from util.engine.folders import is_finished
from util.errors import UserError
from util.formats.masks import read_class_names
from util.read_files import kept_json, read_text


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "marked.txt"
    path.write_text("background\ncat\ndog\n", encoding="utf-8-sig")
    assert read_class_names(path) == ["cat", "dog"]
    assert read_names(path) == ("background", "cat", "dog")
    path.write_text("a__01\nb__02\n", encoding="utf-8-sig")
    assert read_list_file(path).stems == ("a", "b")
    path.write_text('{"query": "a", "class": 1, "supports": ["b"]}\n', encoding="utf-8-sig")
    assert len(read_manifest(path).episodes) == 1


def test_text_that_is_no_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(UserError, match=r"no text in UTF-8: .* at byte 3"):
        read_text(path, "this file", "save it as UTF-8")


def test_two_spellings_of_a_photo_are_one_photo(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("./a\nb//c\n")
    assert read_names(path) == ("a", "b/c")
    path.write_text("a\n./a\n")
    with pytest.raises(UserError, match="names 'a' twice"):
        read_names(path)


@pytest.mark.parametrize("damage", ["rank", "rows", "negative", "kind", "more than the photo has"])
def test_a_cached_index_that_cannot_be_true_is_built_again(mini_data, tmp_path: Path, damage: str) -> None:
    data = replace(mini_data(), cache=str(tmp_path))
    good = load_index(data, "test", progress=False)
    (path,) = tmp_path.glob("*.npz")
    areas = {
        "rank": good.areas[0],
        "rows": good.areas[:, :-1],
        "negative": -good.areas,
        "kind": good.areas.astype(float),
        "more than the photo has": good.areas * 9,
    }[damage]
    np.savez(path, fingerprint=np.array(good.fingerprint), areas=areas, sizes=good.sizes)
    assert np.array_equal(load_index(data, "test", progress=False).areas, good.areas)


@pytest.mark.parametrize("content", [b"[1]", b"3", b"{", b"\xff", b"null", None])
def test_a_damaged_file_of_ones_own_counts_as_missing(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "metrics.json"
    if content is not None:
        path.write_bytes(content)
        (tmp_path / "best.pth").write_bytes(b"")
    assert kept_json(path) == {} and not is_finished(tmp_path)
