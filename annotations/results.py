"""This project's own results, which are read as annotations: a JSON file for each photo, and its mask where it has one.

The mask counts before the run lengths in the JSON, so that it can be corrected in any program.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from annotations.annotation import AnnotatedPhoto, Annotations, CategoryIds, Instance, check_stated, content_errors
from annotations.photo_files import PhotoFiles, is_file
from annotations.remarks import LEFT_OUT
from annotations.shapes import decoded, encoded
from util.files import own_name, read_json, visible
from util.files.mask_images import read_mask
from util.files.progress import ProgressBar

PERSON = "person"  # whom a mask is by, as a result says of each class


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the objects of a result, or of all results in a folder.

    The photos are found by name in ``folder``, default where each result states its photo, from the working folder or
    from the folder above the results. UserError: a file is unreadable, or a photo or its mask is missing.
    """
    home = path if path.is_dir() else path.parent
    files = visible(path.glob("*.json"), path) if path.is_dir() else [path]
    photo_files = PhotoFiles(folder or home.parent, is_named=folder is not None)
    root = folder or home
    ids = CategoryIds()
    photos = []
    for file in ProgressBar(files, str(path), unit="file", leave=False, delay=1):
        record = read_json(file, "this result", "make it again")
        with content_errors(f"{file}: is no result of this project (", "); make it again"):
            stated = str(record["query"])
            height, width = int(record["height"]), int(record["width"])
            is_there = folder is None and is_file(Path(stated))
            photo = Path(stated) if is_there else photo_files.find(stated, file)
            check_stated(photo, height, width)
            instances = _instances(record, home, ids)
        photos.append(AnnotatedPhoto(os.path.relpath(photo, root), height, width, instances, is_upright=True))
    return Annotations(tuple(photos), ids.names(), PhotoFiles(root, is_named=False), path)


def _instances(record: dict[str, Any], home: Path, ids: CategoryIds) -> tuple[Instance, ...]:
    """Return the objects in the record of a result in the folder ``home``."""
    mask = read_mask(home / own_name(record["mask"])) if "mask" in record else None
    instances = []
    for entry in record["classes"]:
        name = entry["name"]
        category = ids[str(name)]
        pixels = decoded(entry["runs"]) if mask is None else mask == int(entry["value"])
        if pixels.any():
            instances.append(Instance(category, encoded(pixels), confirmed=entry.get("by") == PERSON))
    return tuple(instances)


def confirmed_alone(annotations: Annotations) -> Annotations:
    """Return the masks that a person confirmed; others beside them are unknown, and their photos alone left out."""
    photos = []
    for photo in annotations.photos:
        others = [instance for instance in photo.instances if not instance.confirmed]
        unconfirmed = "masks that nobody confirmed (--unconfirmed takes them)"
        annotations.remarks.add(LEFT_OUT, unconfirmed, count=len(others))
        kept = [instance if instance.confirmed else instance._replace(unknown=True) for instance in photo.instances]
        photos.append(photo._replace(instances=tuple(kept) if len(others) < len(kept) else ()))
    return replace(annotations, photos=tuple(photos))
