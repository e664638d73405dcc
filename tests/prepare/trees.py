"""Small trees of VOC and SBD for tests: names, masks, and their files in each form."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from util.data.images.read import voc_palette

VOC_TRAIN = ("2007_000001", "2007_000002", "2008_000003")
VOC_VAL = ("2007_000010", "2007_000011")
SBD_TRAIN = ("2007_000002", "2007_000010", "2008_000020", "2008_000021")  # the first two are VOC's train and val
SBD_VAL = ("2008_000003", "2007_000011", "2008_000030")
SHAPE = (24, 32)


def photo(seed: int, shape: tuple[int, int] = SHAPE) -> bytes:
    """Return a JPEG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def voc_mask(name: str) -> np.ndarray:
    """Return VOC's annotation of an image: it holds 255, which SBD's never do."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:12, 3:20] = 1 + sum(map(ord, name)) % 20
    mask[12, 3:20] = 255
    return mask


def sbd_mask(name: str) -> np.ndarray:
    """Return SBD's annotation of an image."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[5:20, 8:30] = 1 + (sum(map(ord, name)) + 7) % 20
    return mask


def save_mask(path: Path, mask: np.ndarray, palette: bool = True) -> None:
    """Write a palette or grey PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    if palette:
        image.putpalette(voc_palette())
    image.save(path)


def save_mat(path: Path, mask: np.ndarray) -> None:
    """Write SBD's structure: GTcls with Segmentation, Boundaries and CategoriesPresent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    boundaries = np.empty((20, 1), object)
    boundaries[:, 0] = [np.zeros(mask.shape, np.uint8)] * 20
    present = np.unique(mask[mask > 0]).reshape(-1, 1).astype(np.uint8)
    savemat(path, {"GTcls": {"Segmentation": mask, "Boundaries": boundaries, "CategoriesPresent": present}})


def write_names(path: Path, names: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{n}\n" for n in names))
