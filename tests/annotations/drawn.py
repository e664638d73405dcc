"""One photo with two objects in every format that is read, written by hand, and the pixels that a reader gives them."""

import base64
import io
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annotations.labelstudio import brush_runs
from annotations.shapes import encoded
from datasets.custom_masks import from_masks
from datasets.custom_plan import CustomOptions
from datasets.make import run_jobs
from photos.example_files import read_examples
from photos.examples import BOXED
from tests.helpers.read import write_json
from util.files.errors import UserError
from util.files.mask_images import read_mask, write_mask

WIDTH, HEIGHT = 96, 72
CAT = (8, 10, 40, 50)  # x0, y0, x1, y1
DOG = (52, 20, 88, 60)
BOXES = {"cat": CAT, "dog": DOG}
AREAS = {"cat": 1280, "dog": 1440}
PHOTO = "a.jpg"
HEIC = Path(__file__).with_name("red.heic")  # 60 x 40 pixels; stored, since the reader has no encoder
COMPOSED = unicodedata.normalize("NFC", "é0.jpg")  # a name as most systems write it
DECOMPOSED = unicodedata.normalize("NFD", "é0.jpg")
ORIENTATION = 0x0112  # the tag of EXIF
TURNED = 6  # its value of a photo that is stored turned left


def outline(box: tuple[int, ...]) -> list[int]:
    x0, y0, x1, y1 = box
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def corners(box: tuple[int, ...]) -> list[list[int]]:
    return np.reshape(outline(box), (4, 2)).tolist()


def region(*boxes: tuple[int, ...]) -> np.ndarray:
    """Return the class ids of boxes, (H, W) uint8."""
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    for value, (x0, y0, x1, y1) in enumerate(boxes, 1):
        values[y0:y1, x0:x1] = value
    return values


def by_rows(values: np.ndarray) -> dict[str, Any]:
    """Return a mask in run lengths along its rows, where COCO's go down columns."""
    edges = np.flatnonzero(np.diff(values.ravel(), prepend=0))
    return {"size": [HEIGHT, WIDTH], "counts": np.diff(edges, prepend=0, append=values.size).tolist()}


def photo(path: Path, turned: bool = False, orientation: int = 1) -> Path:
    """Write a photo of noise, which differs by the name; ``turned`` has an EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED if turned else orientation
    pixels = np.random.default_rng(sum(path.name.encode())).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(path, "JPEG", exif=exif)
    return path


def areas(text: object, photos: Path | None = None) -> dict[str, int]:
    """Return the pixels of each class over all photos."""
    pixels = {}
    supports, _ = read_examples([str(text)], photos)
    for support in supports:
        name = str(support.name)
        pixels[name] = pixels.get(name, 0) + int(np.isin(support.read().label, (1, BOXED)).sum())
    return pixels


def custom(folder: Path, **options: Any) -> tuple[list[str], list[np.ndarray]]:
    """Return the classes and the masks of the data set that prepare.py makes of masks."""
    plan = from_masks(CustomOptions(**options))
    run_jobs(plan, folder / "out", skip_bad=False)
    return list(plan.classes), [read_mask(path) for path in sorted((folder / "out/masks").iterdir())]


def refusal(text: object, photos: Path | None = None) -> str:
    """Return why the supports that ``text`` names are not read."""
    with pytest.raises(UserError) as caught:
        areas(text, photos)
    return str(caught.value)


def coco_json(
    folder: Path, *marks: dict[str, Any], file: str = "p0.jpg", names=("cat", "dog"), first=1, size=(WIDTH, HEIGHT)
) -> Path:
    """Write COCO's JSON of one photo, with marks of the categories ``first``, ``first`` + 1, ..."""
    width, height = size
    content = {
        "images": [{"id": 7, "file_name": file, "width": width, "height": height}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, first)],
        "annotations": [{"id": n, "image_id": 7, "category_id": n} | mark for n, mark in enumerate(marks, first)],
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "coco.json", content)
    return folder / "coco.json"


def labelme_json(folder: Path, *shapes: dict[str, Any], size=(WIDTH, HEIGHT)) -> Path:
    """Write labelme's JSON of one photo, which names it as a machine with Windows does."""
    photo(folder / PHOTO)
    content = {
        "shapes": shapes,
        "imagePath": f"..\\gone\\{PHOTO}",
        "imageWidth": size[0],
        "imageHeight": size[1],
    }
    write_json(folder / "a.json", content)
    return folder


def polygon(label: str, kind: str = "polygon") -> dict[str, Any]:
    return {"label": label, "points": corners(BOXES[label]), "shape_type": kind}


def coco(folder: Path) -> Path:
    """Write COCO's JSON, with a polygon and run lengths, and ids as COCO has them."""
    photo(folder / PHOTO)
    cat = {"segmentation": [outline(CAT)]}
    return coco_json(folder, cat, {"segmentation": encoded(region(DOG))}, file=PHOTO, first=17)


def labelme(folder: Path) -> Path:
    """Write labelme's JSON, with a polygon and a mask."""
    x0, y0, x1, y1 = DOG
    png = io.BytesIO()
    Image.fromarray(np.full((y1 - y0, x1 - x0), 255, np.uint8)).save(png, "PNG")
    mask = {
        "label": "dog",
        "shape_type": "mask",
        "points": [[x0, y0], [x1 - 1, y1 - 1]],
        "mask": base64.b64encode(png.getvalue()).decode(),
    }
    stray = {"label": "stray", "points": [[x0, y0]], "shape_type": "point"}
    return labelme_json(folder, polygon("cat"), stray, mask)


def yolo(folder: Path) -> Path:
    """Write YOLO's data set, with an outline and a box."""
    photo(folder / "images/train" / PHOTO)
    shares = " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in corners(CAT))
    x0, y0, x1, y1 = DOG
    center = f"{(x0 + x1) / 2 / WIDTH} {(y0 + y1) / 2 / HEIGHT}"
    size = f"{(x1 - x0) / WIDTH} {(y1 - y0) / HEIGHT}"
    labels = folder / "labels/train/a.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text(f"0 {shares}\n1 {center} {size}\n")
    (folder / "data.yaml").write_text("train: images/train\nnames: {0: cat, 1: dog}\n")
    return folder


def labelstudio(folder: Path) -> Path:
    """Write Label Studio's JSON export, with a stroke of a brush and a rectangle that is turned about a corner."""
    photo(folder / PHOTO)
    x0, y0, x1, y1 = DOG
    common = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    turned = {
        "x": 100 * x1 / WIDTH,
        "y": 100 * y0 / HEIGHT,
        "width": 100 * (y1 - y0) / WIDTH,
        "height": 100 * (x1 - x0) / HEIGHT,
        "rotation": 90,
        "rectanglelabels": ["dog"],
    }
    stroke = {"format": "rle", "rle": brush_runs(region(CAT) > 0), "brushlabels": ["cat"]}
    values = {"brushlabels": stroke, "rectanglelabels": turned, "choices": {"choices": ["sharp"]}}
    result = [{"type": kind, "value": value, **common} for kind, value in values.items()]
    annotations = [{"result": [], "was_cancelled": True}, {"result": result}]
    data = {"image": f"/data/upload/1/0123abcd-{PHOTO}"}
    write_json(folder / "export.json", [{"data": data, "annotations": annotations}, {"data": {}}])
    return folder / "export.json"


def results(folder: Path) -> Path:
    """Write this project's own results: a mask of two classes."""
    path = photo(folder / "photos" / PHOTO)
    write_mask(folder / "a_mask.png", region(CAT, DOG))
    classes = [{"name": name, "value": value} for value, name in enumerate(("cat", "dog"), 1)]
    record = {
        "query": str(path),
        "query_file": None,
        "height": HEIGHT,
        "width": WIDTH,
        "mask": "a_mask.png",
        "classes": classes,
    }
    write_json(folder / "a.json", record)
    return folder


WRITERS = {"coco": coco, "labelme": labelme, "yolo": yolo, "labelstudio": labelstudio, "results": results}


def index_mask(path: Path, values: np.ndarray) -> None:
    """Write a palette mask, whose first colour is black."""
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.save(path)


def masks(folder: Path) -> Path:
    """Write an index mask beside its photo, and the file of names."""
    photo(folder / PHOTO)
    index_mask(folder / "a.png", region(CAT, DOG))
    (folder / "names.txt").write_text("background\ncat\ndog\n")
    return folder
