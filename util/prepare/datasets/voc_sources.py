"""Photos, masks and lists of PASCAL VOC 2012 and SBD in each of the forms in which they are distributed.

VOC: the official ``VOCdevkit/VOC2012`` folder. SBD: the ``benchmark_RELEASE`` folder or torchvision's layout (``cls``
with ``.mat`` files, ``img``, ``train.txt``, ``val.txt``), or a ``SegmentationClassAug`` folder of palette or grey PNGs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from util.data.images.read import read_mask
from util.data.lists.index import read_names
from util.errors import UserError

LISTS = Path("ImageSets/Segmentation")
MASK_FOLDERS = ("SegmentationClass", "SegmentationClassAug")  # the official one first
MATLAB = ".mat"


@dataclass(frozen=True)
class Source:
    """One of the two data sets.

    Attributes:
        photos: folder of ``<name>.jpg``, None if the source has none; VOC always has one.
        masks: folder of ``<name>.png`` or ``<name>.mat``.
        suffix: suffix of the masks.
        lists: set name ("train", "val") -> image names; a set may be missing in SBD's PNG form.
    """

    photos: Path | None
    masks: Path
    suffix: str
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def mask(self, name: str) -> Path:
        """Return the path of an image's mask."""
        return self.masks / f"{name}{self.suffix}"


def find_voc(folder: Path) -> Source:
    """Return VOC 2012 from its folder, or from ``VOC2012`` or ``VOCdevkit/VOC2012`` inside a folder.

    Raises:
        UserError: it is missing or incomplete.
    """
    root = _first(folder, ("", "VOC2012", "VOCdevkit/VOC2012"), "JPEGImages")
    if root is None:
        raise UserError(
            f"{folder}: no VOC2012 here (a folder with JPEGImages); give --voc the VOCdevkit/VOC2012 folder"
        )
    masks = next((root / m for m in MASK_FOLDERS if (root / m).is_dir()), None)
    if masks is None:
        raise UserError(f"{root / MASK_FOLDERS[0]}: this folder of masks is missing; unpack the whole VOC2012 archive")
    return Source(
        root / "JPEGImages", masks, ".png", {s: read_names(root / LISTS / f"{s}.txt") for s in ("train", "val")}
    )


def find_sbd(folder: Path) -> Source:
    """Return SBD from a folder, in any of its forms.

    Raises:
        UserError: the folder holds none of the forms.
    """
    root = _first(folder, ("", "dataset", "benchmark_RELEASE/dataset"), "cls")
    if root is not None:
        lists = {s: read_names(root / f"{s}.txt") for s in ("train", "val")}
        photos = root / "img"
        return Source(photos if photos.is_dir() else None, root / "cls", MATLAB, lists)
    masks = next((f for f in (folder / MASK_FOLDERS[1], folder) if any(f.glob("*.png"))), None)
    if masks is None:
        raise UserError(
            f"{folder}: no SBD here; give --sbd the benchmark_RELEASE folder, torchvision's SBD folder, or a "
            "SegmentationClassAug folder of PNGs"
        )
    lists = {}
    for name in ("train", "val"):
        found = next((f / f"{name}.txt" for f in (masks, masks.parent) if (f / f"{name}.txt").is_file()), None)
        if found is not None:
            lists[name] = read_names(found)
    return Source(None, masks, ".png", lists)


def read_source_mask(path: Path) -> np.ndarray:
    """Return a mask of either data set as class indices (H, W) uint8.

    Raises:
        UserError: missing, damaged, or not a mask.
    """
    if path.suffix != MATLAB:
        return read_mask(path)
    from scipy.io import loadmat

    try:
        content = loadmat(path, squeeze_me=True, struct_as_record=False)
        mask = np.asarray(content["GTcls"].Segmentation)
    except Exception as error:  # scipy raises many types of exceptions for damaged files
        raise UserError(f"{path}: not an SBD mask (GTcls.Segmentation) that can be read ({error})") from None
    return mask.astype(np.uint8)


def _first(folder: Path, places: tuple[str, ...], marker: str) -> Path | None:
    """Return the first of some sub-folders that contains the folder ``marker``."""
    return next((folder / p for p in places if (folder / p / marker).is_dir()), None)
