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

from tests.formats.brought import AREAS, CAT, DOG, HEIGHT, WIDTH, areas, coco, outline, photo, region
from util.errors import UserError
from util.formats import recognise
from util.formats.annotations import PhotoFiles
from util.predict.supports import parse_support, supports_in

BOX = [DOG[0], DOG[1], DOG[2] - DOG[0], DOG[3] - DOG[1]]
KNOWN = {"segmentation": [outline(CAT)]}


def refusal(text: object, photos: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        areas(text, photos)
    return str(caught.value)


@pytest.mark.parametrize("segmentation", [[], None, [[DOG[0], DOG[1], DOG[2], DOG[3]]], "absent"])
def test_an_object_with_a_box_alone_is_a_box(tmp_path: Path, capsys, segmentation: Any) -> None:
    photo(tmp_path / "p0.jpg")
    mark = {"bbox": BOX} if segmentation == "absent" else {"bbox": BOX, "segmentation": segmentation}
    assert areas(coco(tmp_path, KNOWN, mark)) == AREAS
    assert "1 objects have no outline, but a box" in capsys.readouterr().err


def test_objects_without_any_area_are_counted_and_a_file_of_them_is_refused(tmp_path: Path, capsys) -> None:
    photo(tmp_path / "p0.jpg")
    assert areas(coco(tmp_path, KNOWN, {"segmentation": [[1, 1, 9, 9]]})) == {"cat": AREAS["cat"]}
    assert "left out: objects without outline or box (1)" in capsys.readouterr().err
    assert "nothing in it marks an object" in refusal(coco(tmp_path, {"segmentation": []}))


def labelme(folder: Path, *shapes: tuple[str, str, list]) -> Path:
    photo(folder / "p0.jpg")
    entries = [{"label": label, "shape_type": kind, "points": points} for label, kind, points in shapes]
    content = {"shapes": entries, "imagePath": "p0.jpg", "imageHeight": HEIGHT, "imageWidth": WIDTH}
    (folder / "p0.json").write_text(json.dumps(content))
    return folder / "p0.json"


def points(box: tuple[int, ...]) -> list[list[float]]:
    return np.reshape(outline(box), (4, 2)).tolist()


def test_labelmes_unknown_shapes_are_counted_by_kind(tmp_path: Path, capsys) -> None:
    cat = ("cat", "polygon", points(CAT))
    assert areas(labelme(tmp_path, cat, ("dog", "cuboid", points(DOG)), ("dog", "line", points(DOG)[:2]))) == {
        "cat": AREAS["cat"]
    }
    assert "shapes of the kind 'cuboid' (1), shapes of the kind 'line' (1)" in capsys.readouterr().err
    assert "'cuboid' (1)" in refusal(labelme(tmp_path, ("dog", "cuboid", points(DOG))))


def entry(box: tuple[int, ...], label: str | None, **changes: Any) -> dict[str, Any]:
    corners = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in points(box)]
    value = {"points": corners} | ({} if label is None else {"polygonlabels": [label]})
    out = {"type": "polygonlabels", "to_name": "image", "original_width": WIDTH, "original_height": HEIGHT}
    return out | {"value": value} | changes


def tasks(folder: Path, data: dict[str, Any], *annotations: dict[str, Any]) -> Path:
    for name in ("x0.jpg", "p0.jpg"):
        photo(folder / name)
    (folder / "p.json").write_text(json.dumps([{"id": 3, "data": data, "annotations": annotations}]))
    return folder / "p.json"


UPLOADED = {"image": "/data/upload/3/aaaaaaaa-x0.jpg", "image2": "/data/upload/3/1a2b3c4d-p0.jpg"}


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (UPLOADED, {"to_name": "image2"}),
        ({"images": ["x0.jpg", "p0.jpg"]}, {"to_name": "img", "item_index": 1}),
        ({"image": "https://b.s3.amazonaws.com/f/p0.jpg?X-Amz-Algorithm=A&X-Amz-Date=1", "text": "x0"}, {}),
        ({"image": "/data/local-files/?d=my%20set/p0.jpg"}, {"to_name": "photo"}),
    ],
)
def test_a_region_belongs_to_the_photo_that_it_names(tmp_path: Path, data: dict, where: dict) -> None:
    path = tasks(tmp_path, data, {"result": [entry(CAT, "cat", **where)]})
    (support,), _ = supports_in([str(path)])
    assert support.photo.name == "p0.jpg" and int(support.read().label.sum()) == AREAS["cat"]


def test_a_region_of_none_of_several_photos_is_refused(tmp_path: Path) -> None:
    line = refusal(tasks(tmp_path, UPLOADED, {"result": [entry(CAT, "cat", to_name="other")]}))
    assert "task 3: of its 2 photos, image, image2, none is 'other'" in line


@pytest.mark.parametrize(
    "first", [{"result": []}, {"result": [entry(DOG, "cat")], "was_cancelled": True}, {"result": [entry(DOG, "cat")]}]
)
def test_the_annotation_of_a_task_is_the_ground_truth_or_the_first_with_regions(tmp_path: Path, first: dict) -> None:
    true = {"result": [entry(CAT, "cat")], "ground_truth": True}
    assert areas(tasks(tmp_path, {"image": "p0.jpg"}, first, true)) == {"cat": AREAS["cat"]}


@pytest.mark.parametrize("form", ["L", "opaque", "transparent"])
def test_the_bitmask_brush_is_read(tmp_path: Path, form: str) -> None:
    dog, buffer = 255 * region(DOG), io.BytesIO()
    channels = {
        "L": dog,
        "opaque": np.dstack([dog] * 3 + [dog * 0 + 255]),
        "transparent": np.dstack([dog * 0] * 3 + [dog]),
    }
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
    path = tasks(tmp_path, {"image": "p0.jpg"}, {"result": [*pair, entry(DOG, None), vector]})
    assert areas(path) == {"cat": AREAS["cat"]}
    said = capsys.readouterr().err
    assert "regions without a label (1)" in said and "regions of 'vectorlabels' (1)" in said


EMBEDDED = {"image": "data:image/png;base64,iVBORw0KGgo="}


@pytest.mark.parametrize(
    ("data", "upload", "found"),
    [(EMBEDDED, "0a1b2c3d-p0.jpg", True), (EMBEDDED | {"file": "p0.jpg"}, "1.json", True), (EMBEDDED, "1.json", False)],
)
def test_a_photo_in_base64_is_found_by_a_name_beside_it(tmp_path: Path, data: dict, upload: str, found: bool) -> None:
    path = tasks(tmp_path, data, {"result": [entry(CAT, "cat")]})
    path.write_text(json.dumps([json.loads(path.read_text())[0] | {"file_upload": upload}]))
    if found:
        assert areas(path) == {"cat": AREAS["cat"]}
    else:
        assert "task 3: a photo in base64 needs its name" in refusal(path)


def test_exports_that_lack_something_are_named(tmp_path: Path) -> None:
    path = tasks(tmp_path, {})
    path.write_text(json.dumps([{"image": "p0.jpg", "label": [{"points": [[1, 1]]}], "annotation_id": 1, "id": 1}]))
    assert "JSON-MIN" in refusal(path)
    photo(tmp_path / "photos/p0.jpg")
    path = tmp_path / "masks/task-3-annotation-7-by-me@x.org-label-cat-0.png"
    path.parent.mkdir()
    Image.fromarray(255 * region(CAT)).save(path)
    assert "BRUSH_TO_PNG" in refusal(path.parent, tmp_path / "photos")


UPRIGHT, SQUARE = (20, 50, 55, 90), (5, 5, 30, 30)  # in the upright frame, 72 x 96; in both frames


@pytest.mark.parametrize(("side", "box"), [("stored", UPRIGHT), ("upright", (50, 20, 90, 55))])
def test_outlines_beyond_the_stated_frame_tell_which_frame_they_are_of(tmp_path, capsys, side: str, box) -> None:
    path = coco(tmp_path, {"segmentation": [outline(box)]}, {"segmentation": [outline(SQUARE)]})
    photo(tmp_path / "p0.jpg", turned=True)
    content = json.loads(path.read_text())
    size = (WIDTH, HEIGHT) if side == "stored" else (HEIGHT, WIDTH)
    content["images"][0] |= dict(zip(("width", "height"), size))
    path.write_text(json.dumps(content))
    (cat, dog), _ = supports_in([str(path)])
    assert int(cat.read().label.sum()) == 1400 and int(dog.read().label.sum()) == 625
    assert cat.read().label.shape == (WIDTH, HEIGHT) and "EXIF orientation" in capsys.readouterr().err
    if side == "stored":  # of the file's other photos as well, whatever their outlines
        assert dog.read().label[5:30, 5:30].all()
        assert parse_support(f"{tmp_path / 'p0.jpg'}:{path}").read("cat").label[50:90, 20:55].all()


def test_outlines_that_contradict_each_other_are_refused_with_both_sizes(tmp_path: Path) -> None:
    path = coco(tmp_path, {"segmentation": [outline(UPRIGHT)]}, {"segmentation": [outline(CAT)]})
    content = json.loads(path.read_text())
    content["images"].append(content["images"][0] | {"id": 8, "file_name": "p1.jpg"})
    content["annotations"][1] |= {"image_id": 8, "segmentation": [outline((50, 20, 90, 55))]}
    path.write_text(json.dumps(content))
    photo(tmp_path / "p0.jpg", turned=True), photo(tmp_path / "p1.jpg", turned=True)
    assert "p1.jpg is not 72 x 96, p0.jpg not 96 x 72" in refusal(path)


def test_sizes_that_are_stated_in_the_other_way_stay(tmp_path: Path) -> None:
    path = coco(tmp_path, {"segmentation": [outline(UPRIGHT)]}, {"segmentation": [outline(SQUARE)]})
    content = json.loads(path.read_text())
    content["images"].append({"id": 8, "file_name": "p1.jpg", "width": HEIGHT, "height": WIDTH})
    content["annotations"][1]["image_id"] = 8
    path.write_text(json.dumps(content))
    photo(tmp_path / "p0.jpg", turned=True), photo(tmp_path / "p1.jpg", turned=True)
    frames = {p.name: (p.height, p.width) for p in recognise.read(str(path))[1].photos}
    assert frames == {"p0.jpg": (WIDTH, HEIGHT), "p1.jpg": (WIDTH, HEIGHT)}


def test_outlines_beyond_the_frame_of_a_photo_are_said(tmp_path: Path, capsys) -> None:
    photo(tmp_path / "p0.jpg")
    areas(coco(tmp_path, {"segmentation": [[2 * number for number in outline(CAT)]]}))
    assert "beyond the stated size of 1 photos are cut, as of p0.jpg" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "unknown"), [("_background_", 0), ("__ignore__", 1440), ("void", 1440)])
def test_names_of_background_and_of_the_unknown_are_no_classes(tmp_path: Path, name: str, unknown: int) -> None:
    photo(tmp_path / "p0.jpg")
    path = coco(tmp_path, KNOWN, {"segmentation": [outline(DOG)]}, names=("cat", name))
    (support,), categories = supports_in([str(path)])
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
    assert areas(coco(tmp_path, KNOWN, file=stated), tmp_path if by_name else None) == {"cat": AREAS["cat"]}


def test_a_photo_of_another_folder_is_another_photo(tmp_path: Path) -> None:
    for place in ("train/p0.jpg", "val/p0.jpg", "val/p1.jpg", "p2.jpg", "sub/p2.jpg"):
        photo(tmp_path / place)
    files = PhotoFiles(tmp_path)
    assert files.find("x/val/p0.jpg", tmp_path) == files.find("/x/val/p0.jpg", tmp_path) == tmp_path / "val/p0.jpg"
    assert files.find("p2.jpg", tmp_path) == tmp_path / "p2.jpg"
    for stated, hint in (
        ("images/train/p1.jpg", "did you mean 'val/p1.jpg'"),
        ("p0.jpg", "2 photos"),
        ("q2.jpg", "'p2.jpg'"),
    ):
        with pytest.raises(UserError, match=hint):
            files.find(stated, tmp_path)


def yolo(folder: Path, rows: str, names: str = "[cat, dog]") -> Path:
    photo(folder / f"images/{NFC}")  # the labels are named as other systems write it
    (folder / "labels").mkdir(exist_ok=True)
    (folder / f"labels/{NFD[:-4]}.txt").write_text(rows)
    (folder / "data.yaml").write_text(f"names: {names}\n")
    return folder


def row(number: object, box: tuple[int, ...]) -> str:
    shares = np.array(outline(box)).reshape(4, 2) / (WIDTH, HEIGHT)
    return " ".join([str(number), *(f"{share:.18e}" for share in shares.reshape(-1))]) + "\n"


def test_hidden_files_are_no_part_of_a_data_set(tmp_path: Path) -> None:
    root = yolo(tmp_path / "yolo", row(0, CAT) + row(1, DOG))
    path = labelme(tmp_path / "labelme", ("cat", "polygon", points(CAT)), ("dog", "polygon", points(DOG)))
    for folder, files in ((root, (f"images/{NFC}", f"labels/{NFD[:-4]}.txt")), (path.parent, ("p0.jpg", "p0.json"))):
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


@pytest.mark.parametrize("segmentation", [outline(CAT), points(CAT), [points(CAT)], [RUNS], [RUNS, RUNS]])
def test_frequent_slips_of_converters_are_read(tmp_path: Path, segmentation: Any) -> None:
    photo(tmp_path / "p0.jpg")
    assert areas(coco(tmp_path, {"segmentation": segmentation})) == {"cat": AREAS["cat"]}
