"""Words in names: of classes whose pixels are of none, and of folders, which are of parts, photos or masks."""

import re
import unicodedata
from collections.abc import Iterable

BACKGROUND = ("background", "_background_", "__background__")  # names in lower case
UNMARKED = {"unannotated", "unlabeled", "unlabelled"}  # the value 0 in files of names, else unknown pixels
# Names of the value 0 in files of names, in lower case and without what is no letter
NOTHING = {"background", "bg", "noclass", "nolabel", "none", "noobject", "nothing", *UNMARKED}
# Names of unknown pixels, likewise, and words that may follow them
UNKNOWN = {
    *("donotcare", "dontcare", "ignore", "ignored", "nodata", "unclassified", "undefined", "unknown", "void"),
    *UNMARKED,
}
LABEL_WORDS = re.compile("(area|class|label|pixel|region)s?$")
# words in the names of folders, in lower case: of parts of a set, of photos and of masks, the usual ones first
PARTS = {"train", "training", "trn", "val", "valid", "validation", "test", "testing"}
PHOTO_FOLDER_NAMES = ("images", "image", "photos", "photo", "jpegimages", "imgs", "img")
MASK_FOLDER_NAMES = (
    *("masks", "mask", "segmentationclass", "segmentationclassaug", "groundtruth", "gt"),
    *("anns", "ann", "labels", "label", "annotations", "annotation"),
)
FOLDER_WORDS = ("dir", "folder", "set")
NO_CLASS = PARTS.union(PHOTO_FOLDER_NAMES, MASK_FOLDER_NAMES, FOLDER_WORDS)


def is_nothing(name: str) -> bool:
    """Return whether a name in a file of names is that of no class: the value 0, or a word for it."""
    return _letters(name) in NOTHING or name.strip("\"' ") in ("0", "")


def is_unknown(name: str) -> bool:
    """Return whether the name of a class says that its pixels are unknown, such as ``__ignore__`` or ``Don't care``."""
    letters = _letters(name)
    return letters in UNKNOWN or LABEL_WORDS.sub("", letters) in UNKNOWN


def _letters(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalpha())


def name_key(name: str) -> str:
    """Return a name without case, and composed as other systems may not write it."""
    return unicodedata.normalize("NFC", name).casefold()


def words_of(name: str) -> set[str]:
    """Return the words in a name, in lower case."""
    return {*re.findall(r"[a-z]+", name.lower())}


def is_of_set(name: str) -> bool:
    """Return whether a folder's name is that of a part of a set, or of its photos or masks, and not of a class."""
    words = words_of(name)
    return bool(words) and words <= NO_CLASS


def part_of(name: str) -> set[str]:
    """Return the words in a name that say which part of a set it is of."""
    return words_of(name) & PARTS


def place_of(folders: Iterable[str]) -> tuple[str, ...]:
    """Return the names of folders in lower case, without words that mean photos or masks."""
    names = (" ".join(sorted(part_of(name))) if is_of_set(name) else name_key(name) for name in folders)
    return tuple(filter(None, names))


def are_other_places(place: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Return whether two results of ``place_of`` differ, compared from the innermost folder on while both have one."""
    return any(name != other_name for name, other_name in zip(reversed(place), reversed(other)))
