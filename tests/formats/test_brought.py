"""Annotations as people bring them are read as they are meant, or what is not understood is said."""

import base64
import io
import json
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from tests.formats.drawn import (
    AREAS,
    CAT,
    DOG,
    HEIGHT,
    WIDTH,
    areas,
    coco_json,
    corners,
    labelme_json,
    outline,
    photo,
    polygon,
    region,
)
from util.errors import UserError
from util.formats import recognise
from util.formats.photo_files import PhotoFiles
from util.predict.supports import parse_support, read_supports

BOX = [DOG[0], DOG[1], DOG[2] - DOG[0], DOG[3] - DOG[1]]
KNOWN = {"segmentation": [outline(CAT)]}
CATS = {"cat": AREAS["cat"]}


def refusal(text: object, photos: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        areas(text, photos)
    return str(caught.value)


@pytest.mark.parametrize("mark", [{"segmentation": s} for s in ([], None, [[*DOG]])] + [{}])
def test_an_object_with_a_box_alone_is_a_box(tmp_path: Path, capsys, mark: dict) -> None:
    photo(tmp_path / "p0.jpg")
    assert areas(coco_json(tmp_path, KNOWN, {"bbox": BOX} | mark)) == AREAS
    assert "read as boxes: objects without outline, but with a box (1)" in capsys.readouterr().err


def test_objects_that_have_no_meaning_are_counted_and_a_file_of_them_is_refused(tmp_path: Path, capsys) -> None:
    photo(tmp_path / "p0.jpg")
    assert areas(coco_json(tmp_path, KNOWN, {"segmentation": [[1, 1, 9, 9]]})) == CATS
    assert "left out: objects without outline or box (1)" in capsys.readouterr().err
    assert "nothing in it marks an object" in refusal(coco_json(tmp_path, {"segmentation": []}))
    areas(coco_json(tmp_path, {"segmentation": [[2 * number for number in outline(CAT)]]}))
    cut = "cut at the photo's edges: photos with outlines beyond their stated size (1, such as p0.jpg)"
    assert cut in capsys.readouterr().err
    unknown = polygon("dog", "cuboid"), polygon("dog", "line")
    assert areas(labelme_json(tmp_path / "labelme", polygon("cat"), *unknown)) == CATS
    assert "shapes of the kind 'cuboid' (1), shapes of the kind 'line' (1)" in capsys.readouterr().err


def entry(box: tuple[int, ...], label: str | None, **changes: Any) -> dict[str, Any]:
    shares = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in corners(box)]
    value = {"points": shares} | ({} if label is None else {"polygonlabels": [label]})
    out = {"type": "polygonlabels", "to_name": "image", "original_width": WIDTH, "original_height": HEIGHT}
    return out | {"value": value} | changes


def tasks(folder: Path, data: dict[str, Any], *annotations: dict[str, Any], upload: str = "") -> Path:
    for name in ("x0.jpg", "p0.jpg"):
        photo(folder / name)
    task = {"id": 3, "data": data, "annotations": annotations, "file_upload": upload}
    (folder / "p.json").write_text(json.dumps([task]))
    return folder / "p.json"


UPLOADED = {"image": "/data/upload/3/aaaaaaaa-x0.jpg", "image2": "/data/upload/3/1a2b3c4d-p0.jpg"}
EMBEDDED = {"image": "data:image/png;base64,iVBORw0KGgo="}


@pytest.mark.parametrize(
    ("data", "where", "upload"),
    [
        (UPLOADED, {"to_name": "image2"}, ""),
        ({"images": ["x0.jpg", "p0.jpg"]}, {"to_name": "img", "item_index": 1}, ""),
        ({"image": "https://b.s3.amazonaws.com/f/p0.jpg?X-Amz-Algorithm=A&X-Amz-Date=1", "text": "x0"}, {}, ""),
        ({"image": "/data/local-files/?d=my%20set/p0.jpg"}, {"to_name": "photo"}, ""),
        (EMBEDDED, {}, "0a1b2c3d-p0.jpg"),
        (EMBEDDED | {"file": "p0.jpg"}, {}, "1.json"),
    ],
)
def test_a_region_belongs_to_the_photo_that_it_names(tmp_path: Path, data: dict, where: dict, upload: str) -> None:
    path = tasks(tmp_path, data, {"result": [entry(CAT, "cat", **where)]}, upload=upload)
    (support,), _ = read_supports([str(path)])
    assert support.photo.name == "p0.jpg" and int(support.read().label.sum()) == AREAS["cat"]


def test_exports_that_lack_something_are_named(tmp_path: Path) -> None:
    line = refusal(tasks(tmp_path, UPLOADED, {"result": [entry(CAT, "cat", to_name="other")]}))
    assert "task 3: of its 2 photos, image, image2, none is 'other'" in line
    line = refusal(tasks(tmp_path, EMBEDDED, {"result": [entry(CAT, "cat")]}, upload="1.json"))
    assert "task 3: a photo in base64 needs its name" in line
    path = tasks(tmp_path, {})
    path.write_text(json.dumps([{"image": "p0.jpg", "label": [{"points": [[1, 1]]}], "annotation_id": 1, "id": 1}]))
    assert "JSON-MIN" in refusal(path)
    photo(tmp_path / "photos/p0.jpg")
    path = tmp_path / "masks/task-3-annotation-7-by-me@x.org-label-cat-0.png"
    path.parent.mkdir()
    Image.fromarray(255 * region(CAT)).save(path)
    assert "BRUSH_TO_PNG" in refusal(path.parent, tmp_path / "photos")


@pytest.mark.parametrize(
    "first", [{"result": []}, {"result": [entry(DOG, "cat")], "was_cancelled": True}, {"result": [entry(DOG, "cat")]}]
)
def test_the_annotation_of_a_task_is_the_ground_truth_or_the_first_with_regions(tmp_path: Path, first: dict) -> None:
    true = {"result": [entry(CAT, "cat")], "ground_truth": True}
    assert areas(tasks(tmp_path, {"image": "p0.jpg"}, first, true)) == CATS


@pytest.mark.parametrize("form", ["L", "opaque", "transparent"])
def test_the_bitmask_brush_is_read(tmp_path: Path, form: str) -> None:
    dog, buffer = 255 * region(DOG), io.BytesIO()
    none, full = dog * 0, dog * 0 + 255
    channels = {"L": dog, "opaque": np.dstack([dog] * 3 + [full]), "transparent": np.dstack([none] * 3 + [dog])}
    Image.fromarray(channels[form]).save(buffer, "PNG")
    address = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    painted = entry(DOG, None, type="bitmasklabels", value={"imageDataURL": address, "bitmasklabels": ["dog"]})
    assert areas(tasks(tmp_path, {"image": "p0.jpg"}, {"result": [entry(CAT, "cat"), painted]})) == AREAS
    painted["value"]["imageDataURL"] = address[:40]
    assert "task 3: a mask is damaged" in refusal(tasks(tmp_path, {"image": "p0.jpg"}, {"result": [painted]}))


def test_regions_without_a_label_and_of_other_tools_are_counted(tmp_path: Path, capsys) -> None:
    vector = entry(DOG, None, type="vectorlabels", value={"vertices": [], "vectorlabels": ["dog"]})
    pair = [entry(CAT, None, type="polygon"), entry(CAT, None, type="labels")]  # one region, of two entries
    pair[1]["value"]["labels"] = ["cat"]
    assert areas(tasks(tmp_path, {"image": "p0.jpg"}, {"result": [*pair, entry(DOG, None), vector]})) == CATS
    said = capsys.readouterr().err
    assert "regions without a label (1)" in said and "regions of 'vectorlabels' (1)" in said


UPRIGHT, TURNED_BACK, SQUARE = (20, 50, 55, 90), (50, 20, 90, 55), (5, 5, 30, 30)  # the first in the frame 72 x 96


def turned(folder: Path, first: tuple, second: tuple, of_first: dict, of_second: dict | None = None) -> Path:
    """Write annotations of a photo with an EXIF orientation, or of two; the entries of images may be changed."""
    path = coco_json(folder, {"segmentation": [outline(first)]}, {"segmentation": [outline(second)]})
    content = json.loads(path.read_text())
    if of_second is not None:
        content["images"].append(content["images"][0] | {"id": 8, "file_name": "p1.jpg"} | of_second)
        content["annotations"][1]["image_id"] = 8
    content["images"][0] |= of_first
    path.write_text(json.dumps(content))
    photo(folder / "p0.jpg", turned=True), photo(folder / "p1.jpg", turned=True)
    return path


@pytest.mark.parametrize(("side", "box"), [("stored", UPRIGHT), ("upright", TURNED_BACK)])
def test_outlines_beyond_the_stated_frame_tell_which_frame_they_are_of(tmp_path, capsys, side: str, box) -> None:
    path = turned(tmp_path, box, SQUARE, {} if side == "stored" else {"width": HEIGHT, "height": WIDTH})
    (cat, dog), _ = read_supports([str(path)])
    assert int(cat.read().label.sum()) == 1400 and int(dog.read().label.sum()) == 625
    assert cat.read().label.shape == (WIDTH, HEIGHT) and "EXIF orientation" in capsys.readouterr().err
    if side == "stored":  # of the file's other photos as well, whatever their outlines
        assert dog.read().label[5:30, 5:30].all()
        assert parse_support(f"{tmp_path / 'p0.jpg'}:{path}").read("cat").label[50:90, 20:55].all()


def test_other_photos_state_their_size_in_the_same_way_or_keep_it(tmp_path: Path) -> None:
    assert "p1.jpg is not 72 x 96, p0.jpg not 96 x 72" in refusal(turned(tmp_path, UPRIGHT, TURNED_BACK, {}, {}))
    path = turned(tmp_path, UPRIGHT, SQUARE, {}, {"width": HEIGHT, "height": WIDTH})
    frames = {p.name: (p.height, p.width) for p in recognise.read(str(path)).photos}
    assert frames == {"p0.jpg": (WIDTH, HEIGHT), "p1.jpg": (WIDTH, HEIGHT)}


@pytest.mark.parametrize(("name", "unknown"), [("_background_", 0), ("__ignore__", 1440), ("void", 1440)])
def test_names_of_background_and_of_the_unknown_are_no_classes(tmp_path: Path, name: str, unknown: int) -> None:
    photo(tmp_path / "p0.jpg")
    path = coco_json(tmp_path, KNOWN, {"segmentation": [outline(DOG)]}, names=("cat", name))
    (support,), categories = read_supports([str(path)])
    assert categories == {1: "cat"} and int((support.read().label == 255).sum()) == unknown


NFC, NFD = (unicodedata.normalize(form, "é0.jpg") for form in ("NFC", "NFD"))
STATED = [
    ("images\\p0.jpg", "images/p0.jpg"),
    ("C:\\my photos\\p0.jpg", "p0.jpg"),
    ("..\\..\\media\\p0.jpg", "p0.jpg"),
    ("/home/me/photos/p0.jpg", "sub/p0.jpg"),
    ("https://b.s3.amazonaws.com/x/p0.jpg?X-Amz-Algorithm=AWS4", "p0.jpg"),
    ("file:///C:/x/my%20cat.jpg", "my cat.jpg"),
    ("images/0a1b2c3d-p0.jpg", "p0.jpg"),
    ("P0.JPG", "p0.jpg"),
    (NFD, NFC),
    (NFC, NFD),
]


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize(("stated", "path"), STATED)
def test_a_photo_is_found_however_its_name_is_written(tmp_path: Path, stated: str, path: str, by_name: bool) -> None:
    photo(tmp_path / path)
    assert areas(coco_json(tmp_path, KNOWN, file=stated), tmp_path if by_name else None) == CATS


def test_a_photo_of_another_folder_is_another_photo(tmp_path: Path) -> None:
    for place in ("train/p0.jpg", "val/p0.jpg", "val/p1.jpg", "p2.jpg", "sub/p2.jpg"):
        photo(tmp_path / place)
    files = PhotoFiles(tmp_path)
    assert files.find("x/val/p0.jpg", tmp_path) == files.find("/x/val/p0.jpg", tmp_path) == tmp_path / "val/p0.jpg"
    assert files.find("p2.jpg", tmp_path) == tmp_path / "p2.jpg"
    hints = {"images/train/p1.jpg": "did you mean 'val/p1.jpg'", "p0.jpg": "2 photos", "q2.jpg": "'p2.jpg'"}
    for stated, hint in hints.items():
        with pytest.raises(UserError, match=hint):
            files.find(stated, tmp_path)


def yolo(folder: Path, rows: str, names: str = "[cat, dog]") -> Path:
    photo(folder / f"images/{NFC}")  # the labels are named as other systems write it
    (folder / "labels").mkdir(exist_ok=True)
    (folder / f"labels/{NFD[:-4]}.txt").write_text(rows)
    (folder / "data.yaml").write_text(f"names: {names}\n")
    return folder


def row(number: object, box: tuple[int, ...]) -> str:
    shares = np.array(corners(box)) / (WIDTH, HEIGHT)
    return " ".join([str(number), *(f"{share:.18e}" for share in shares.reshape(-1))]) + "\n"


def test_hidden_files_are_no_part_of_a_data_set(tmp_path: Path) -> None:
    root = yolo(tmp_path / "yolo", row(0, CAT) + row(1, DOG))
    other = labelme_json(tmp_path / "labelme", polygon("cat"), polygon("dog"))
    for folder, files in ((root, (f"images/{NFC}", f"labels/{NFD[:-4]}.txt")), (other, ("a.jpg", "a.json"))):
        for file in files:
            for hidden in (".ipynb_checkpoints", "__MACOSX"):
                target = (folder / file).parent / hidden / f"p0-checkpoint{Path(file).suffix}"
                target.parent.mkdir(exist_ok=True)
                shutil.copy(folder / file, target)
            (folder / file).with_name(f"._{Path(file).name}").write_bytes(b"\0\5\26\7")
        (folder / "._data.yaml").write_bytes(b"\0\5"), (folder / "Thumbs.db").write_bytes(b"\0")
        assert areas(folder) == AREAS
    assert [one.name for one in PhotoFiles(root).paths] == [NFC]


def test_yolos_class_may_be_a_decimal_number_and_its_names_begin_with_the_background(tmp_path: Path, capsys) -> None:
    assert areas(yolo(tmp_path / "1", row("0.000000000000000000e+00", CAT) + row("1.0", DOG))) == AREAS
    assert areas(yolo(tmp_path / "2", row(1, CAT) + row(2, DOG), "[_background_, cat, dog]")) == AREAS
    assert not capsys.readouterr().err


ENCODED = rle.encode(np.asfortranarray(region(CAT)))
RUNS = {"size": ENCODED["size"], "counts": ENCODED["counts"].decode()}


@pytest.mark.parametrize("segmentation", [outline(CAT), corners(CAT), [corners(CAT)], [RUNS], [RUNS, RUNS]])
def test_frequent_slips_of_converters_are_read(tmp_path: Path, segmentation: Any) -> None:
    photo(tmp_path / "p0.jpg")
    assert areas(coco_json(tmp_path, {"segmentation": segmentation})) == CATS
