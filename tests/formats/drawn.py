"""One photo with two objects, written in every format that is read, by hand."""

import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from util.data.images.read import write_mask
from util.formats.labelstudio import brush_runs
from util.formats.shapes import encoded

WIDTH, HEIGHT = 40, 30
CAT, DOG = (4, 6, 18, 20), (22, 3, 36, 13)  # x0, y0, x1, y1
BOXES = {"cat": CAT, "dog": DOG}
PHOTO = "a.jpg"


def mask_of(name: str) -> np.ndarray:
    """Return the pixels of a class, (H, W) bool."""
    x0, y0, x1, y1 = BOXES[name]
    out = np.zeros((HEIGHT, WIDTH), bool)
    out[y0:y1, x0:x1] = True
    return out


def corners(name: str) -> list[tuple[int, int]]:
    x0, y0, x1, y1 = BOXES[name]
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def photo(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (90, 20, 60)).save(folder / PHOTO)
    return folder / PHOTO


def coco(folder: Path) -> Path:
    """Write COCO's JSON, with a polygon and run lengths, and ids as COCO has them."""
    photo(folder)
    shapes = {17: [np.ravel(corners("cat")).tolist()], 18: encoded(mask_of("dog"))}
    content = {
        "images": [{"id": 9, "file_name": PHOTO, "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
        "annotations": [
            {"id": c, "image_id": 9, "category_id": c, "iscrowd": 0, "segmentation": s} for c, s in shapes.items()
        ],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    return folder / "coco.json"


def labelme(folder: Path) -> Path:
    """Write labelme's JSON, with a polygon and a mask."""
    photo(folder)
    x0, y0, x1, y1 = DOG
    png = io.BytesIO()
    Image.fromarray(np.full((y1 - y0, x1 - x0), 255, np.uint8)).save(png, "PNG")
    mask = base64.b64encode(png.getvalue()).decode()
    shapes = [
        {"label": "cat", "points": corners("cat"), "shape_type": "polygon"},
        {"label": "stray", "points": [[x0, y0]], "shape_type": "point"},
        {"label": "dog", "points": [[x0, y0], [x1 - 1, y1 - 1]], "shape_type": "mask", "mask": mask},
    ]
    content = {"shapes": shapes, "imagePath": f"..\\gone\\{PHOTO}", "imageHeight": HEIGHT, "imageWidth": WIDTH}
    (folder / "a.json").write_text(json.dumps(content))
    return folder


def yolo(folder: Path) -> Path:
    """Write YOLO's data set, with an outline and a box."""
    photo(folder / "images" / "train")
    shares = " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in corners("cat"))
    x0, y0, x1, y1 = DOG
    box = f"{(x0 + x1) / 2 / WIDTH} {(y0 + y1) / 2 / HEIGHT} {(x1 - x0) / WIDTH} {(y1 - y0) / HEIGHT}"
    (folder / "labels" / "train").mkdir(parents=True)
    (folder / "labels" / "train" / "a.txt").write_text(f"0 {shares}\n1 {box}\n")
    (folder / "data.yaml").write_text("train: images/train\nnames: {0: cat, 1: dog}\n")
    return folder


def labelstudio(folder: Path) -> Path:
    """Write Label Studio's JSON export, with a stroke of a brush and a rectangle that is turned about a corner."""
    photo(folder)
    x0, y0, x1, y1 = DOG
    common = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    turned = {"x": 100 * x1 / WIDTH, "y": 100 * y0 / HEIGHT, "width": 100 * (y1 - y0) / WIDTH, "rotation": 90}
    turned |= {"height": 100 * (x1 - x0) / HEIGHT, "rectanglelabels": ["dog"]}
    stroke = {"format": "rle", "rle": brush_runs(mask_of("cat")), "brushlabels": ["cat"]}
    values = {"brushlabels": stroke, "rectanglelabels": turned, "choices": {"choices": ["sharp"]}}
    result = [{"type": kind, "value": value, **common} for kind, value in values.items()]
    annotations = [{"result": [], "was_cancelled": True}, {"result": result}]
    tasks = [{"data": {"image": f"/data/upload/1/0123abcd-{PHOTO}"}, "annotations": annotations}, {"data": {}}]
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json"


def results(folder: Path) -> Path:
    """Write this project's own results: a mask of two classes and of one that a review has rejected."""
    path = photo(folder / "photos")
    values = mask_of("cat") + 2 * mask_of("dog") + 3 * np.roll(mask_of("dog"), 15, 0)
    write_mask(folder / "a_mask.png", values.astype(np.uint8))
    classes = [{"name": name, "value": value} for value, name in enumerate(("cat", "dog", "bad"), 1)]
    record = {"query": str(path), "height": HEIGHT, "width": WIDTH, "mask": "a_mask.png", "classes": classes}
    (folder / "a.json").write_text(json.dumps(record | {"query_file": [0, 0]}))
    (folder / "accepted (1).csv").write_text(f"photo,class,verdict\n{path},bad,rejected\n")
    return folder


WRITERS = {"coco": coco, "labelme": labelme, "yolo": yolo, "labelstudio": labelstudio, "results": results}


def masks(folder: Path) -> Path:
    """Write an index mask beside its photo, and the file of names."""
    photo(folder)
    values = mask_of("cat") + 2 * mask_of("dog").astype(np.uint8)
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.save(folder / "a.png")
    (folder / "names.txt").write_text("background\ncat\ndog\n")
    return folder
