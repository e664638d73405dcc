"""Small trees in the official structures of data sets that have a mask per photo and class."""

import csv
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.prepare.trees import photo
from util.data.images.read import read_mask
from util.files import REPOSITORY
from util.prepare.datasets import deepglobe, suim

SIDE = 36


def disc(seed: int, side: int = SIDE) -> np.ndarray:
    """Return a mask (side, side) bool of a disc."""
    x, y = np.random.default_rng(seed).integers(side // 3, side - side // 3, 2)
    rows, columns = np.ogrid[:side, :side]
    return (rows - y) ** 2 + (columns - x) ** 2 < (side // 4) ** 2


def save_photo(path: Path, seed: int, side: int = SIDE) -> None:
    """Write a photo of noise, in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jpg":
        path.write_bytes(photo(seed, (side, side)))
    else:
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)).save(path)


def save_grey(path: Path, mask: np.ndarray, mode: str = "L") -> None:
    """Write a mask as 0 and 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).convert(mode).save(path)


def fss(folder: Path) -> dict[str, list[str]]:
    """Write classes of FSS-1000, masks as RGB; return three of each part of its lists, misspelt ones among them."""
    lists = REPOSITORY / "lists/fss1000"
    listed = {part: sorted((lists / f"{part}.txt").read_text().split())[:3] for part in ("trn", "val")}
    names = {"trn": ["assult_rifle", *listed["trn"][:2]], "val": listed["val"]}
    names["test"] = ["abe's_flyingfish", "burj_al", "bus"]
    for seed, name in enumerate(name for part in names.values() for name in part):
        for number in range(1, 11):
            save_photo(folder / name / f"{number}.jpg", 10 * seed + number)
            save_grey(folder / name / f"{number}.png", disc(10 * seed + number), "RGB")
    return names


def isic(root: Path, of_class: int = 3, folders: bool = False) -> Path:
    """Write photos of each class of ISIC 2018, the first with a mask of another size; ``folders``: sorted by class."""
    with (REPOSITORY / "lists/isic2018/classes.csv").open() as file:
        rows = [(row["ID"], row["Class"]) for row in csv.DictReader(file)]
    numbers = {"seborrheic_keratosis": "1", "nevus": "2", "melanoma": "3"}
    for name, number in numbers.items():
        for seed, photo_name in enumerate([p for p, c in rows if c == name][:of_class]):
            inner = root / "ISIC2018_Task1-2_Training_Input"
            save_photo((inner / number if folders else inner) / f"{photo_name}.jpg", seed)
            truth = root / "ISIC2018_Task1_Training_GroundTruth" / f"{photo_name}_segmentation.png"
            save_grey(truth, disc(seed, SIDE if seed else 2 * SIDE))
    return root


def chest(root: Path) -> Path:
    """Write X-rays of both hospitals: three and two with masks, one without."""
    for seed, name in enumerate([f"CHNCXR_000{n}_0" for n in (1, 2, 3)] + [f"MCUCXR_000{n}_1" for n in (1, 2)]):
        save_photo(root / "CXR_png" / f"{name}.png", seed)
        suffix = "_mask" if name.startswith("CHN") else ""
        save_grey(root / "masks" / f"{name}{suffix}.png", disc(seed))
    save_photo(root / "CXR_png" / "CHNCXR_0009_1.png", 9)
    return root


def land(seed: int, side: int) -> np.ndarray:
    """Return a mask of colours (side, side, 3): vertical stripes of all classes and unknown, and one row of forest."""
    colours = [*deepglobe.COLOURS.values(), (0, 0, 0)]
    stripe = side // (2 * deepglobe.GRID)
    out = np.zeros((side, side, 3), np.uint8)
    for column in range(side):
        out[:, column] = colours[(seed + column // stripe) % len(colours)]
    out[: side // deepglobe.GRID] = deepglobe.COLOURS["forest"]  # tiles of one colour, which are left out
    return out


def deepglobe_raw(root: Path, images: int = 2, side: int = 96) -> Path:
    """Write whole images of DeepGlobe, and one of its validation images without a mask."""
    (root / "train").mkdir(parents=True)
    for seed in range(images):
        save_photo(root / "train" / f"{1000 + seed}_sat.jpg", seed, side)
        Image.fromarray(land(seed, side)).save(root / "train" / f"{1000 + seed}_mask.png")
    save_photo(root / "valid" / "2000_sat.jpg", 9, side)
    return root


def deepglobe_cut(root: Path, form: str, prepared: Path) -> Path:
    """Write the tiles of a prepared folder in one of the layouts that circulate."""
    for line in (prepared / "lists/test.txt").read_text().splitlines():
        name, number, photo_name = line.split()
        pixels = cv2.imread(str(prepared / "images" / photo_name))
        mask = read_mask(prepared / "masks" / f"{name}.png") > 0
        tile = Path(photo_name).stem
        masked = tile.replace("_sat_", "_mask_")
        photos, masks = {
            "Deepglobe": (
                f"Deepglobe/{number}/test/origin/{tile}.jpg",
                f"Deepglobe/{number}/test/groundtruth/{tile}.png",
            ),
            "04_train_cat": (
                f"04_train_cat/{number}/test/origin/{tile}.jpg",
                f"04_train_cat/{number}/test/groundtruth/{masked}.png",
            ),
            "filter_mask": (f"Deepglobe/image/{tile}.jpg", f"Deepglobe/filter_mask/{number}/{masked}.png"),
        }[form]
        (root / photos).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / photos), pixels)
        save_grey(root / masks, mask, "RGB")
    return root


def suim_tree(root: Path, coloured: bool) -> Path:
    """Write two photos of SUIM, with masks of colours (BMP) or in a folder for each class, one of which is empty."""
    for seed in range(2):
        stem = f"d_r_{seed}_"
        save_photo(root / "images" / f"{stem}.jpg", seed)
        (root / "masks").mkdir(exist_ok=True)
        colours = np.zeros((SIDE, SIDE, 3), np.uint8)
        colours[:10] = np.array(suim.CODES["FV"]) * 255
        colours[20:30] = np.array(suim.CODES["RO" if seed else "WR"]) * 255
        if coloured:
            Image.fromarray(colours).save(root / "masks" / f"{stem}.bmp")
            continue
        for name, code in suim.CODES.items():
            save_grey(root / "masks" / name / f"{stem}.bmp", (colours == np.array(code) * 255).all(2))
    return root
