"""Sets in parts: which folder of photos belongs to a file of annotations, and the content of several files as one."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from annotations.annotation import AnnotatedPhoto, Annotations
from annotations.mask_files import OF_MASKS, folders_of, is_named, part_of, photo_folders
from annotations.photo_files import PhotoFiles, name_key
from annotations.remarks import Remarks
from util.files.errors import UserError

ANNOTATIONS = "annotations"  # the usual folder, beside that of the photos

Reader = Callable[[Path, Path | None], Annotations]  # of a file, and the folder of its photos


def home_of(file: Path, root: Path, photos: Path) -> Path:
    """Return the folder of the photos of a file of annotations in the set of the folder ``root``.

    Among all ``photos`` it is the one that lies as the file does in its set, or that of the same part, such as
    ``images/train`` of ``annotations/instances_train.json``; else all.
    """
    place = [name for name in file.parent.relative_to(root).parts if not is_named(name, OF_MASKS)]
    part = part_of(file.stem)
    for folder in photo_folders(photos):
        if place and folder.joinpath(*place).is_dir():
            return folder.joinpath(*place)
        for entry in folders_of(folder):
            if part and part_of(entry.name) == part and not is_named(entry.name, OF_MASKS):
                return entry
    return photos


def beside(folder: Path) -> Path:
    """Return the folder of a set of which a folder holds the annotations: the one above ``annotations``, else it."""
    return folder.parent if folder.name.lower() == ANNOTATIONS else folder


@dataclass
class _Joined:
    """The parts of a set that have been read so far."""

    photos: Path
    categories: dict[int, str]
    ids: dict[str, int]  # by the categories' names
    annotated: list[AnnotatedPhoto]
    file_of_photo: dict[tuple[Path, str], Path]  # by its folder and its name there

    def add(self, part: Annotations, file: Path) -> None:
        """Add what a file says; UserError: another has listed one of its photos."""
        ids = {number: self._id_of(name, number) for number, name in part.categories.items()}
        home = part.files.folder
        for photo in part.photos:
            other = self.file_of_photo.setdefault((home, name_key(photo.name)), file)
            if other != file:
                raise UserError(f"{other} and {file} both list the photo '{photo.name}'; name one of them")
            instances = tuple(instance._replace(category=ids[instance.category]) for instance in photo.instances)
            name = _from_all(photo, part, self.photos)
            self.annotated.append(photo._replace(name=name, instances=instances))

    def _id_of(self, name: str, number: int) -> int:
        """Return the id of a category in all files, its own ``number`` if that is free."""
        if name in self.ids:
            return self.ids[name]
        if number in self.categories:
            number = max(self.categories) + 1
        self.categories[number] = name
        self.ids[name] = number
        return number


def _from_all(photo: AnnotatedPhoto, part: Annotations, photos: Path) -> str:
    """Return a photo's name from the folder of all photos on; as its file writes it if it is not in its part's."""
    home = part.files.folder
    if home == photos:
        return photo.name
    with suppress(UserError):
        return Path(os.path.relpath(part.path_of(photo), photos)).as_posix()
    path = PureWindowsPath(photo.name)
    if path.root or path.drive or "://" in photo.name:
        return photo.name
    return f"{home.relative_to(photos).as_posix()}/{photo.name}"


def read_parts(reader: Reader, files: Sequence[Path], root: Path, photos: Path | None) -> Annotations:
    """Return what several files of a set say together; categories of one name are one.

    Args:
        reader: reads one file.
        files: in the folder ``root`` of the set.
        root: also the folder of the photos, or beside that, unless it is given.
        photos: the folder of the photos.

    Raises:
        UserError: two files list one photo; others as the reader.
    """
    root = beside(root)
    all_photos = photos or root
    joined = _Joined(all_photos, categories={}, ids={}, annotated=[], file_of_photo={})
    remarks = Remarks()
    for file in files:
        part = reader(file, home_of(file, root, all_photos))
        joined.add(part, file)
        remarks.include(part.remarks)
    categories = dict(sorted(joined.categories.items()))
    photo_files = PhotoFiles(all_photos, is_named=photos is not None)
    return Annotations(tuple(joined.annotated), categories, photo_files, root, remarks)
