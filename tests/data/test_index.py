"""Tests of the index of class areas: right counts, refusals with a remedy, and a cache of which the content decides."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.data.drawn import overwrite
from tests.datasets.class_trees import save_photo
from util.config.folds import Fold
from util.config.settings import DataSettings
from util.data.lists.image_list import train_list
from util.data.lists.index import Index, load_index
from util.data.lists.listed import read_list, read_names
from util.files.errors import UserError
from util.files.mask_images import write_mask

CLASSES, IGNORE = 3, 255


def _load(data: DataSettings) -> Index:
    return load_index(data, "train", progress=False)


@pytest.fixture
def tiny(tmp_path: Path) -> DataSettings:
    """Return the settings of six small images with known masks, all in the training list."""
    root = tmp_path / "tiny"
    values = np.array([0, 1, 2, 3, IGNORE], np.uint8)
    for n, mask in enumerate(values[np.random.default_rng(0).integers(0, 5, (6, 12, 10))]):
        save_photo(root / f"JPEGImages/photo{n}.jpg", n, mask.shape)
        write_mask(root / f"SegmentationClassAug/photo{n}.png", mask)
    (root / "train.txt").write_text("".join(f"photo{n}\n" for n in range(6)))
    classes = [f"class{c}" for c in range(1, CLASSES + 1)]
    return DataSettings("tiny", str(root), "train.txt", "train.txt", classes, cache=f"{root}/cache")


@pytest.mark.parametrize(("part", "file"), [("train", "train"), ("test", "val")])
def test_areas_equal_a_brute_force_count(mini_data, part: str, file: str) -> None:
    data = mini_data()
    index = load_index(data, part, progress=False)
    names = Path(data.root, f"ImageSets/Segmentation/{file}.txt").read_text().split()
    assert ([*index.names], index.areas.dtype) == (names, np.int64)
    for name, image, mask, areas in zip(names, index.images, index.masks, index.areas, strict=True):
        assert (image.name, mask.name) == (f"{name}.jpg", f"{name}.png")
        values = Image.open(mask).tobytes()
        assert areas.tolist() == [values.count(class_id) for class_id in range(9)]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: write_mask(path, np.full((12, 10), CLASSES + 1, np.uint8)), f"holds the value {CLASSES + 1};"),
        (lambda path: write_mask(path, np.zeros((10, 12), np.uint8)), "(12, 10) and (10, 12)"),
        (lambda path: path.write_bytes(path.read_bytes()[:-60]), "damaged"),
        (Path.unlink, "train.txt: "),  # the list that names it
    ],
)
def test_a_wrong_mask_is_named(tiny: DataSettings, spoil: Callable[[Path], object], says: str) -> None:
    path = Path(tiny.root) / tiny.masks / "photo2.png"
    spoil(path)
    with pytest.raises(UserError) as caught:
        _load(tiny)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


def test_a_list_names_each_image_once(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a\n\nb\n", encoding="utf-8-sig")  # a byte-order mark is no part of the first name
    assert read_names(path) == ("a", "b")
    for again, also in (("b", "; "), ("./b", ", also as 'b'; "), ("c/../b", ", also as 'b'; ")):
        path.write_text(f"a\nb\n{again}\n")
        with pytest.raises(UserError, match=rf"list\.txt: '{again}' is named twice{also}"):
            read_names(path)


def test_rows_are_compared_as_files(tiny: DataSettings) -> None:
    """Photos and masks in one folder are named from there on, from beside it, or by a link to it."""
    name = _load(tiny).names[0]
    path = Path(tiny.root) / "train.txt"
    (Path(tiny.root) / tiny.images / "linked").symlink_to(".")
    for again in (f"../JPEGImages/{name}", f"linked/{name}"):
        path.write_text(f"{name}\n{again}\n")
        with pytest.raises(UserError, match="is named twice, also as"):
            read_list(replace(tiny, masks=tiny.images), "train")


def test_a_list_of_classes_names_a_photo_once_for_each(tiny: DataSettings) -> None:
    """Else it is the support of itself, by another mask."""
    path = Path(tiny.root) / "train.txt"
    binary = replace(tiny, mask_form="binary")
    path.write_text("one 1 a\nother 2 a\n")
    assert len(read_list(binary, "train").images) == 2
    path.write_text("one 1 a\nother 01 ./a\n")
    with pytest.raises(UserError, match="'other' is named twice, also as 'one'"):
        read_list(binary, "train")


@pytest.mark.parametrize(
    "form",
    [
        "JPEGImages/{}.jpg SegmentationClassAug/{}.png",
        "/JPEGImages/{}.jpg {root}/SegmentationClassAug/{}.png",
        "../data/VOC2012/JPEGImages/{}.jpg /home/of/another/VOC2012/SegmentationClassAug/{}.png",
    ],
)
def test_a_list_of_photos_and_masks_is_the_list_of_their_names(tiny: DataSettings, form: str) -> None:
    named = _load(tiny)
    lines = [form.replace("{root}", str(Path(tiny.root).resolve())).format(name, name) for name in named.names]
    (Path(tiny.root) / "train.txt").write_text("\n".join(lines))
    index = _load(tiny)
    assert (index.names, index.fingerprint) == (named.names, named.fingerprint)


def test_a_list_of_photos_and_masks_may_name_other_masks(tiny: DataSettings) -> None:
    root = Path(tiny.root)
    (root / "Corrected").mkdir()
    write_mask(root / "Corrected/one.png", np.full((12, 10), 2, np.uint8))
    (root / "train.txt").write_text("JPEGImages/photo0.jpg Corrected/one.png\n")
    assert _load(tiny).areas.tolist() == [[0, 0, 120, 0]]


@pytest.mark.parametrize("line", ["photo1 -1", "photo1 a b"])
def test_a_second_word_in_a_list_is_not_dropped(tiny: DataSettings, line: str) -> None:
    (Path(tiny.root) / "train.txt").write_text(f"photo0\n{line}\n")
    with pytest.raises(UserError, match=rf"train\.txt:2: '{line}' .*a line must be"):
        _load(tiny)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_photo_that_is_cut_off_is_named(tiny: DataSettings, suffix: str) -> None:
    data = replace(tiny, image_suffix=suffix)
    for number in range(6):
        save_photo(Path(tiny.root) / f"JPEGImages/photo{number}{suffix}", number, (12, 10))
    _load(data)
    photo = Path(tiny.root) / f"JPEGImages/photo3{suffix}"
    content = photo.read_bytes()
    photo.write_bytes(content + b"maker's notes")
    _load(data)
    photo.write_bytes(content[:-40])
    with pytest.raises(UserError, match=rf"photo3{suffix}: this photo is damaged"):
        _load(data)


@pytest.mark.parametrize("values", [lambda mask: mask - 1, lambda mask: mask > 0])
def test_masks_that_know_no_background_are_refused(mini_data, tmp_path: Path, values) -> None:
    """Classes that count from 0 with 255 elsewhere, as in COCO-Stuff, or one class with 255 around it."""
    data = mini_data()
    root = tmp_path / "mini"
    shutil.copytree(data.root, root)
    for path in (root / data.masks).glob("*.png"):
        mask = np.asarray(Image.open(path))
        write_mask(path, np.where((mask == 0) | (mask == IGNORE), IGNORE, values(mask)).astype(np.uint8))
    with pytest.raises(UserError, match=r"nothing is background, .* know one class; .* unknown \(255\)"):
        load_index(replace(data, root=str(root), cache=f"{tmp_path}/cache"), "test", progress=False)


def test_a_damaged_cache_file_is_rebuilt(tiny: DataSettings) -> None:
    first = _load(tiny)
    (path,) = Path(tiny.cache).glob("*")
    content = bytearray(path.read_bytes())
    start = len(content) // 3
    for place in range(start, start + 40):
        content[place] ^= 255
    path.write_bytes(content)
    assert (_load(tiny).areas == first.areas).all()
    assert [*Path(tiny.cache).glob("*")] == [path]


def _png(value: int) -> bytes:
    """Return a mask of one value as a file whose size depends on the mask's size alone."""
    _, encoded = cv2.imencode(".png", np.full((12, 10), value, np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 0])
    return encoded.tobytes()


PHOTO = cv2.imencode(".jpg", np.full((12, 10, 3), 90, np.uint8))[1].tobytes()
REPLACED = {
    "JPEGImages/photo2.jpg": (PHOTO + b"a", PHOTO + b"b"),
    "SegmentationClassAug/photo2.png": (_png(2), _png(3)),
}


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("name", REPLACED)
def test_a_replaced_file_is_read_again_though_size_and_time_are_equal(
    tiny: DataSettings, name: str, in_place: bool
) -> None:
    path = Path(tiny.root) / name
    content, other = REPLACED[name]
    path.write_bytes(content)
    first = _load(tiny)
    (cache,) = Path(tiny.cache).glob("*")
    written = cache.stat().st_mtime_ns
    assert (_load(tiny).fingerprint, cache.stat().st_mtime_ns) == (first.fingerprint, written)
    overwrite(path, other, in_place)
    second = _load(tiny)
    assert second.fingerprint != first.fingerprint
    assert second.areas[2].tolist() == ([0, 0, 0, 120] if path in second.masks else first.areas[2].tolist())
    assert [row for row in range(6) if second.content(row) != first.content(row)] == [2]


FOLD = Fold(novel=(1,), base=(2, 3))


def test_copied_files_with_other_times_are_the_same_data_set(tiny: DataSettings, tmp_path: Path) -> None:
    first = _load(tiny)
    shutil.copytree(tiny.root, tmp_path / "copy", copy_function=shutil.copyfile)
    copy = _load(replace(tiny, root=f"{tmp_path}/copy"))
    assert copy.fingerprint == first.fingerprint
    data = replace(tiny, min_pixels=1, folds=3, exclude_novel=False)
    assert train_list(copy, FOLD, data).files_digest == train_list(first, FOLD, data).files_digest
