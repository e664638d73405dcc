"""Copies of a photo, equal files, and versions of it, by their names: they stay on one side of a split.

Classes that are copies of each other are said too.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np

from datasets.make import write_list
from util.data.lists.index import Index, OneClassAreas
from util.files.errors import note, one_line
from util.files.mask_images import VALUE, read_mask_of

PHOTOS = 32  # on which classes are compared
ALIKE = 0.7  # intersection over union of two people's masks of an object, on average at least
VERSION = re.compile(r"\.rf\.[0-9A-Za-z]+$")  # ends the stem of a photo that Roboflow has augmented


def photo_groups(index: Index) -> list[list[int]]:
    """Return the rows of each photo in an index of all images: of all its masks, its copies, and its versions."""
    parents: dict[Hashable, Hashable] = {}
    digests = [index.photo_digest(row) for row in range(len(index))]
    for row, digest in enumerate(digests):
        name = _without_version(index, row)
        for key in (digest, name):
            parents.setdefault(key, key)
        parents[_root(digest, parents)] = _root(name, parents)
    groups = defaultdict[Hashable, list[int]](list)
    for row, digest in enumerate(digests):
        groups[_root(digest, parents)].append(row)
    return [*groups.values()]


def _root(key: Hashable, parents: Mapping[Hashable, Hashable]) -> Hashable:
    while parents[key] != key:
        key = parents[key]
    return key


def _without_version(index: Index, row: int) -> Hashable:
    """Return what the versions of a photo have in common: their file's name up to the version; else its path."""
    photo = index.images[row]
    name, count = VERSION.subn("", photo.stem)
    return name if count else photo


def print_versions(index: Index, groups: Sequence[Sequence[int]]) -> None:
    """Print how many photos have several versions, if any."""
    versions = []
    for rows in groups:
        photos = {index.images[row] for row in rows if VERSION.search(index.images[row].stem)}
        if len(photos) > 1:
            versions.append(len(photos))
    if versions:
        what = f"{len(versions)} photos have {sum(versions)} versions (.rf. in their names)"
        print(f"note, in one list together: {what}")


def note_alike_classes(index: Index, classes: Sequence[str], source: Path | str) -> None:
    """Say which classes cover nearly the same pixels of photos, as the masks of two people do."""
    if not isinstance(index.areas, OneClassAreas):
        return
    class_names = [classes[class_id - 1] for class_id in index.areas.class_ids]
    overlaps = defaultdict[tuple[str, str], list[float]](list)
    with_several = [rows for rows in index.rows_by_photo.values() if len(rows) > 1]
    for rows in with_several[:PHOTOS]:
        for row, other in itertools.combinations(rows, 2):
            region, other_region = (read_mask_of(index.images[one], index.masks[one]) == VALUE for one in (row, other))
            overlap = (region & other_region).sum() / max((region | other_region).sum(), 1)
            overlaps[class_names[row], class_names[other]].append(overlap)
    for (name, other_name), shares in overlaps.items():
        if np.mean(shares) >= ALIKE:
            fix = "if two people marked the same objects, keep one folder, named after the class"
            note(f"{source}: '{name}' and '{other_name}' are two classes of nearly the same pixels; {fix}")


def leave_out_copies(index: Index, listed: Path) -> None:
    """Take photos out of the list of all that are copies of others with equal masks: they would support themselves.

    Lines say how many, and how many copies have other masks, which stay.
    """
    rows_of_photo = defaultdict[str, list[int]](list)
    for row in sorted(range(len(index)), key=lambda row: len(index.names[row])):  # a copy has the longer name
        rows_of_photo[index.photo_digest(row)].append(row)
    equal, different = dict[int, int](), dict[int, int]()  # row of a copy -> that of the photo that it is a copy of
    for first, *others in rows_of_photo.values():
        copies = [row for row in others if index.images[row] != index.images[first]]
        if not copies:
            continue
        twins: dict[Hashable, int] = {}
        for row in (first, *others):
            twin = twins.setdefault(_marks(index, row), row)
            if row in copies and twin != row:
                equal[row] = twin
            elif row in copies:
                different[row] = first
    _print_copies("left out", equal, index)
    _print_copies("note, in one list together, with other masks", different, index)
    if equal:
        _take_out(equal, index, listed)


def _marks(index: Index, row: int) -> Hashable:
    """Return what two rows of one photo have in common if they are marked alike: classes, and files of masks."""
    rows = index.rows_by_photo[index.images[row]] if index.joined else [row]
    classes = index.areas.class_ids[rows].tolist() if isinstance(index.areas, OneClassAreas) else []
    masks = [index.digests[other, 1].tobytes() for other in rows]
    return (*classes, *masks)


def _take_out(rows: Mapping[int, int], index: Index, listed: Path) -> None:
    """Remove rows from the list, and their files."""
    lines = listed.read_text(encoding="utf-8").splitlines()
    write_list(listed, [line for row, line in enumerate(lines) if row not in rows])
    remaining = {index.images[row] for row in range(len(index)) if row not in rows}
    for row in rows:
        index.masks[row].unlink()
        if index.images[row] not in remaining:
            index.images[row].unlink(missing_ok=True)


def _print_copies(what: str, copies: Mapping[int, int], index: Index) -> None:
    """Print how many rows are copies of others, with the first of them; ``what`` says what becomes of them."""
    if copies:
        copy, original = next(iter(copies.items()))
        example = f"{index.names[copy]} of {index.names[original]}"
        print(one_line(f"{what}: {len(copies)} copies of photos, such as {example}"))
