"""This project's own results, which are read as annotations: a JSON file for each photo, and its mask where it has one.

The mask counts before the run lengths in the JSON, so that it can be corrected in any program.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from annotations.annotation import PERSON, Annotations, Instance
from annotations.photo_files import REPLACED, is_same_file
from annotations.shapes import decoded, encoded
from util.files.folders import visible
from util.files.mask_images import read_mask
from util.files.names import own_name
from util.files.reading import read_json

LEFT = "left out: masks that nobody confirmed (--unconfirmed takes them)"
TAKEN = "taken: masks that nobody confirmed, so scores that follow from them are too good"


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the objects of a result, or of all results in a folder.

    The photos are found by name in ``folder``, default: where each result states its photo, from the working folder or
    from the folder above the results. Results of photos that were replaced since are left out and counted. UserError: a
    file is unreadable, or a photo or its mask is missing.
    """
    home = path if path.is_dir() else path.parent
    annotations = Annotations.begin(path, home.parent, folder)
    for file in annotations.each(visible(path.glob("*.json"), path) if path.is_dir() else [path]):
        record = read_json(file, "this result", "make it again")
        with annotations.reading(f"{file}: is no result of this project (", "); make it again"):
            stated = str(record["query"])
            photo = Path(stated)
            if folder is not None or not photo.is_file():
                photo = annotations.files.find(stated, file)
            if record["query_file"] and not is_same_file(record["query_file"], photo):
                annotations.remarks[REPLACED][photo.name] += 1
                continue
            known = {annotations.category(str(row["name"])): row.get("by") == PERSON for row in record["classes"]}
            annotations.add(
                photo,
                (int(record["height"]), int(record["width"])),
                _instances(record, home, annotations),
                is_upright=True,
                known=known,
            )
    return annotations.checked()


def _instances(record: dict[str, Any], home: Path, annotations: Annotations) -> Iterator[Instance]:
    """Yield the objects in the record of a result in the folder ``home``."""
    mask = read_mask(home / own_name(record["mask"])) if "mask" in record else None
    for entry in record["classes"]:
        pixels = decoded(entry["runs"]) if mask is None else mask == int(entry["value"])
        if pixels.any():
            category = annotations.category(str(entry["name"]))
            yield Instance(category, encoded(pixels), confirmed=entry.get("by") == PERSON)


def decide_unconfirmed(annotations: Annotations, taken: bool) -> None:
    """Say which masks no person confirmed, and leave them out unless they are ``taken``.

    Those left out are unknown beside others, and photos with such masks alone show nothing. So are classes of which a
    network alone says that they are not on a photo.
    """
    for number, photo in enumerate(annotations.photos):
        confirmed = [instance for instance in photo.instances if instance.confirmed]
        unknown = [instance._replace(unknown=True) for instance in photo.instances if not instance.confirmed]
        annotations.remarks[TAKEN if taken else LEFT][photo.name] += len(unknown)
        if not taken:
            known = photo.known and {category: True for category, confirmed in photo.known.items() if confirmed}
            annotations.photos[number] = photo._replace(
                instances=(*unknown, *confirmed) if confirmed else (), known=known
            )
