"""Masks of class indices that annotations describe.

A mask is painted in this order: first crowd regions, as 255 (ignored), then instances from the largest to the smallest
by the pixels of their own masks. So of two overlapping instances the smaller is on top, of two equal ones the later in
the file. Empty and degenerate polygons (fewer than three points, or all points on one line) cover nothing.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pycocotools import mask as rle

from model.episode import IGNORE
from util.data.images.read import fitted_mask, header_of, upright_size
from util.errors import UserError
from util.formats.annotations import AnnotatedPhoto, Shape, in_words
from util.formats.shapes import decoded, has_area


def class_mask(photo: AnnotatedPhoto, table: Mapping[int, int]) -> np.ndarray:
    """Return a photo's class indices, (H, W) uint8: 0 is background, 255 is crowd.

    ``table`` gives category id -> class id; annotations of other categories are ignored, including crowd regions.
    UserError: an annotation does not fit the photo; the message names the photo.
    """
    mask = np.zeros((photo.height, photo.width), np.uint8)
    regions = []
    for instance in photo.instances:
        if instance.category not in table:
            continue
        with in_words(f"{photo.name}: its annotation of category {instance.category} is damaged (", "); correct it"):
            region = _pixels(instance.shape, [photo.height, photo.width])
        if instance.crowd:
            mask[region] = IGNORE
        else:
            regions.append((int(region.sum()), table[instance.category], region))
    for _, class_id, region in sorted(regions, key=lambda r: r[0], reverse=True):
        mask[region] = class_id
    return mask


def label_of(photo: AnnotatedPhoto, path: Path, table: Mapping[int, int]) -> np.ndarray:
    """Return the class indices of a photo's file, upright, (H, W) uint8: as ``class_mask``.

    UserError: as ``class_mask``; the file, stored or upright, has another size than its annotations; or nothing tells
    which of both they are of.
    """
    (stored, orientation), stated = header_of(path), (photo.height, photo.width)
    if stated not in (stored, upright_size(stored, orientation)):  # painting at a stated size could take all memory
        raise UserError(f"{path}: image and annotations have different sizes (height, width): {stored} and {stated}")
    return fitted_mask(class_mask(photo, table), photo.is_upright, stored, orientation, path)


def _pixels(shape: Shape, size: list[int]) -> np.ndarray:
    """Return the pixels of an annotation, (H, W) bool."""
    if isinstance(shape, dict):
        if shape["size"] != size:
            raise ValueError(f"its size is {shape['size']}, the image's {size}")
        return decoded(shape)
    polygons = [polygon for polygon in shape if has_area((polygon,))]
    # rasterising takes a hundred bytes for each pixel along an outline; the comparison fails for NaN too
    if not all((np.abs(polygon) < 2**17).all() for polygon in polygons):
        raise ValueError("its outlines reach far beyond the photo")
    if not polygons:
        return np.zeros(size, bool)
    return rle.decode(rle.merge(rle.frPyObjects(polygons, *size))).view(bool)
