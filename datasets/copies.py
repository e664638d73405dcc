"""Photos that belong together, copies of one or frames of a film, stay on one side of a split.

Classes that are copies of each other, and masks that seem inverted, are said too.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.make import write_list
from util.data.lists.index import Index, OneClassAreas
from util.files.errors import note, one_line
from util.files.mask_images import VALUE, read_mask_of

PHOTOS = 32  # on which classes are compared
ALIKE = 0.7  # intersection over union of two people's masks of an object, on average at least
VERSION = re.compile(r"\.rf\.[0-9A-Za-z]+$")  # ends the stem of a photo that Roboflow has augmented
SIDES = "(?:h|v|lr|ud|horizontal(?:ly)?|vertical(?:ly)?)"
TURN = rf"(?:(?:{SIDES}[\W_]?)?(?:flip|mirror)(?:p?ed)?|rot(?:ated?|ation)?|turned|aug(?:mented)?)"
# words of turning around a photo's name, if they are no month
TURNED = re.compile(rf"(?<!20\d\d)(?:[\W_]+{TURN}(?:[\W_]*(?:\d+|{SIDES}))?)+$|^{TURN}[\W_]+", re.IGNORECASE)
LAST_NUMBER = re.compile(r"\d+(?=\D*$)")
LEAST_GROUPS = 4  # that show a class: two to train on, two to test on
FRAMES_ALIKE = 0.9  # correlation of two frames of a film
SIDE = 32  # pixels at which they are compared
FRAME = 0.95  # of the pixels at a photo's edges, that a mask covers which may be inverted
LARGE = 0.25  # of a photo, likewise
NAMED = 8  # masks in a line


def photo_groups(index: Index, pattern: str | None = None) -> list[list[int]]:
    """Return the rows of each photo in an index of all images: of all its masks, its copies, and what names join.

    ``pattern`` finds in a photo's name what those of a group have in common; as ``_names_of_groups`` without one.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(index)
    digests = np.unique([index.photo_digest(row) for row in range(count)], return_inverse=True)[1]
    names = np.unique(_names_of_groups(index, pattern), return_inverse=True)[1] + count
    joined = coo_array((np.ones(count), (digests, names)), (2 * count, 2 * count))
    labels = connected_components(joined, directed=False)[1][digests]
    groups = defaultdict[int, list[int]](list)
    for row, label in enumerate(labels.tolist()):
        groups[label].append(row)
    return [*groups.values()]


def _names_of_groups(index: Index, pattern: str | None) -> list[str]:
    """Return what the photos of a group have in common, for each row.

    It is the file's name without Roboflow's version and words of turning; of a film's frames, which look alike, also
    without the last number, unless too few groups would show a class: then a line says so.
    """
    if pattern is not None:
        found = [re.search(pattern, photo.stem) for photo in index.images]
        return [match[0] if match else str(photo) for match, photo in zip(found, index.images)]
    photos = [photo.with_name(TURNED.sub("", VERSION.sub("", photo.stem)) or photo.stem) for photo in index.images]
    names = _names_of_films(index, photos)
    if all(_has_enough(index.areas[:, class_id], names, photos) for class_id in range(1, index.areas.shape[1])):
        return [*map(str, names)]
    example = next(photo.name for photo, name in zip(photos, names) if photo != name)
    few = "together they would leave a class too few groups to divide, so each is by itself; see --group"
    note(f"photos such as {example} look like frames of a film; {few}")
    return [*map(str, photos)]


def _names_of_films(index: Index, photos: Sequence[Path]) -> list[Path]:
    """Return the names of photos, those of a film's frames without the last number."""
    films = [photo.parent / LAST_NUMBER.sub("", photo.name) for photo in photos]
    frames = defaultdict[Path, dict[Path, int]](dict)
    for row in sorted(range(len(index)), key=lambda row: (len(photos[row].name), photos[row])):
        frames[films[row]][photos[row]] = row
    alike = {film for film, rows in frames.items() if len(rows) > 1 and _look_alike(index, [*rows.values()])}
    return [film if film in alike else photo for film, photo in zip(films, photos, strict=True)]


def _has_enough(pixels: np.ndarray, names: Sequence[Path], photos: Sequence[Path]) -> bool:
    """Return whether a class, with its pixels in each row, is in enough groups for a division, or in all it can be."""
    rows = np.flatnonzero(pixels).tolist()
    return len({names[row] for row in rows}) >= min(LEAST_GROUPS, len({photos[row] for row in rows}))


def _look_alike(index: Index, rows: Sequence[int]) -> bool:
    """Return whether two photos in the middle of some rows, as of a film's frames, show nearly the same."""
    middle = rows[len(rows) // 2 - 1 :][:2]
    one, other = (cv2.resize(index.pair(row)[0], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for row in middle)
    return cv2.matchTemplate(one, other, cv2.TM_CCOEFF_NORMED).item() >= FRAMES_ALIKE


def print_groups(index: Index, groups: Sequence[Sequence[int]]) -> None:
    """Print how many photos stay together in a division, if any."""
    together = [sorted({index.images[row] for row in rows}) for rows in groups]
    together = [photos for photos in together if len(photos) > 1]
    if together:
        first, second, *_ = together[0]
        what = f"{sum(map(len, together))} photos in {len(together)} groups of copies, versions or frames of a film"
        how = f"such as {first.stem} and {second.stem}; --group REGEX groups by other names, --group '.+' does not"
        print(one_line(f"note, in one list together: {what}, {how}"))


def note_inverted(index: Index, classes: Sequence[str], source: Path | str) -> None:
    """Say which masks of a class cover their photo's edges where most do not, as if they were inverted."""
    if not index.one_class_masks and len(classes) > 1:
        return
    for class_id, name in enumerate(classes, 1):
        pixels = index.areas[:, class_id]
        large = np.flatnonzero(pixels > LARGE * index.sizes.prod(1)).tolist()
        inverted = [index.names[row] for row in large if _covers_edges(index, row, class_id)]
        shown = int((pixels > 0).sum())
        if 0 < len(inverted) <= shown / 2:
            named = ", ".join(inverted[:NAMED])
            what = f"{len(inverted)} of {shown} masks of '{name}' cover the photo's edges, as if inverted"
            note(f"{source}: {what}: {named}; exchange object and ground in them if they are")


def _covers_edges(index: Index, row: int, class_id: int) -> bool:
    """Return whether a class covers a photo's edges, and not all of it."""
    value = VALUE if index.one_class_masks else class_id
    inside = read_mask_of(index.images[row], index.masks[row]) == value
    edges = np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]])
    return bool(edges.mean() >= FRAME and not inside.all())


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

    A line says how many. Copies with other masks stay.
    """
    first_of_photo: dict[Hashable, int] = {}
    copies: dict[int, int] = {}  # row -> that of the photo that it is a copy of
    for row in sorted(range(len(index)), key=lambda row: len(index.names[row])):  # a copy has the longer name
        first = first_of_photo.setdefault((index.photo_digest(row), _marks(index, row)), row)
        if index.images[row] != index.images[first]:
            copies[row] = first
    if copies:
        copy, first = next(iter(copies.items()))
        print(
            one_line(f"left out: {len(copies)} copies of photos, such as {index.names[copy]} of {index.names[first]}")
        )
        _take_out(copies, index, listed)


def _marks(index: Index, row: int) -> Hashable:
    """Return a value that is equal for two rows of one photo with the same classes and files of masks."""
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
