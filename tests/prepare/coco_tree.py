"""A small COCO with real files: two times six photos, annotations in the official format."""

import json
from pathlib import Path

import cv2
import numpy as np
import yaml

from tests.paths import REPOSITORY
from util.prepare.datasets import coco

CLASSES = yaml.safe_load((REPOSITORY / "config/coco/coco.yaml").read_text())["data"]["classes"]
CATEGORIES = [{"id": i + 1 + i // 8, "name": name} for i, name in enumerate(CLASSES)]  # with gaps, as COCO's ids have
SIDES = 24, 36
IMAGES = 6  # of each split; the last has no annotation


def name_of(split: str, number: int) -> str:
    return f"COCO_{split}_{number:012d}"


def json_of(root: Path, split: str) -> Path:
    return root / f"annotations/instances_{split}.json"


def draw_coco(out: Path) -> Path:
    """Write it to a folder and return that: image n shows a box of class n and one of class 80."""
    (out / "annotations").mkdir(parents=True)
    for split in coco.SPLITS:
        (out / split).mkdir()
        images, annotations = [], []
        for number in range(IMAGES, 0, -1):  # not by id
            name = f"{name_of(split, number)}.jpg"
            cv2.imwrite(str(out / split / name), np.full((*SIDES, 3), 40 * number, np.uint8))
            images.append({"id": number, "file_name": name, "height": SIDES[0], "width": SIDES[1]})
            for class_id, left in ((number, 0), (80, 20)) if number < IMAGES else ():
                box = [left, 4, left + 10, 4, left + 10, 20, left, 20]
                category = CATEGORIES[class_id - 1]["id"]
                annotations.append({"image_id": number, "category_id": category, "segmentation": [box], "iscrowd": 0})
        content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        json_of(out, split).write_text(json.dumps(content))
    return out
