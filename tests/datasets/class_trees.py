"""Small trees in the official structures of data sets that have a mask per photo and class."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from annotations.shapes import encoded
from datasets.recipes.recipe import read_table
from util.files.project import REPOSITORY

SIDE = 36


def disc(seed: int, side: int = SIDE) -> np.ndarray:
    """Return a mask (side, side) bool of a disc."""
    x, y = np.random.default_rng(seed).integers(side // 3, side - side // 3, 2)
    rows, columns = np.ogrid[:side, :side]
    return (rows - y) ** 2 + (columns - x) ** 2 < (side // 4) ** 2


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


def save_photo(path: Path, seed: int, sides: tuple[int, int] = (SIDE, SIDE)) -> None:
    """Write a photo of noise, in the format of the suffix."""
    save(path, np.random.default_rng(seed).integers(0, 256, (*sides, 3), np.uint8))


def save_grey(path: Path, mask: np.ndarray, mode: str = "L") -> None:
    """Write a mask as 0 and 255."""
    save(path, mask.astype(np.uint8) * 255, mode)


def fss(folder: Path) -> dict[str, list[str]]:
    """Write classes of FSS-1000, masks as RGB; return three of each part of its lists, misspelt ones among them."""
    lists = REPOSITORY / "lists/fss1000"
    names = {
        "trn": ["assult_rifle", *sorted((lists / "trn.txt").read_text().split())[:2]],
        "val": sorted((lists / "val.txt").read_text().split())[:3],
        "test": ["abe's_flyingfish", "burj_al", "bus"],
    }
    for place, name in enumerate(itertools.chain(*names.values())):
        for number in range(1, 11):
            seed = 10 * place + number
            save_photo(folder / name / f"{number}.jpg", seed)
            save_grey(folder / name / f"{number}.png", disc(seed), "RGB")
    return names


def isic(root: Path) -> Path:
    """Write photos of each class of ISIC 2018, the first with a mask of another size; one class in a folder."""
    rows = read_table("isic2018/classes.csv")
    photos = root / "ISIC2018_Task1-2_Training_Input"
    masks = root / "ISIC2018_Task1_Training_GroundTruth"
    for class_name, folder in (("seborrheic_keratosis", photos), ("nevus", photos), ("melanoma", photos / "3")):
        names = [row["ID"] for row in rows if row["Class"] == class_name]
        for seed, name in enumerate(names[:2]):
            save_photo(folder / f"{name}.jpg", seed)
            save_grey(masks / f"{name}_segmentation.png", disc(seed, SIDE if seed else 2 * SIDE))
    return root


def chest(root: Path) -> Path:
    """Write X-rays of both hospitals: three and two with masks, one without."""
    for seed, name in enumerate([*(f"CHNCXR_000{n}_0" for n in (1, 2, 3)), "MCUCXR_0001_1", "MCUCXR_0002_1"]):
        mask_name = f"{name}_mask" if name.startswith("CHN") else name
        save_photo(root / f"CXR_png/{name}.png", seed)
        save_grey(root / f"masks/{mask_name}.png", disc(seed))
    save_photo(root / "CXR_png/CHNCXR_0009_1.png", 9)
    return root


def deepglobe(root: Path, form: str) -> None:
    """Write two tiles of DeepGlobe and three masks of two classes in one of the layouts that circulate."""
    for class_id, tile in ((1, "00"), (2, "00"), (2, "12")):
        if form == "filter_mask":
            save_photo(root / f"Deepglobe/image/1000_{tile}.jpg", int(tile))
            save_grey(root / f"Deepglobe/filter_mask/{class_id}/1000_{tile}.png", disc(class_id), "RGB")
        else:
            save_photo(root / f"04_train_cat/{class_id}/test/origin/1000_sat_{tile}.jpg", int(tile))
            save_grey(root / f"04_train_cat/{class_id}/test/groundtruth/1000_mask_{tile}.png", disc(class_id), "RGB")


def runs(rows: slice, columns: slice) -> dict[str, Any]:
    """Return a rectangle in a photo of ``SIDE`` pixels in COCO's run lengths."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[rows, columns] = True
    return encoded(mask)
