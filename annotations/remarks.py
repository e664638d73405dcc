"""Entries of annotations that are no plain objects, and how readers treat them: one table for all formats."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

BACKGROUND = ("background", "_background_", "__background__")  # names in lower case
UNMARKED = {"unannotated", "unlabeled", "unlabelled"}  # the value 0 in files of names, else unknown pixels
# Names of the value 0 in files of names, in lower case and without what is no letter; others are told by the masks
NOTHING = {"background", "bg", "noclass", "nolabel", "none", "noobject", "nothing", *UNMARKED}
# Names of unknown pixels, likewise, and words that may follow them
UNKNOWN = {
    *("donotcare", "dontcare", "ignore", "ignored", "nodata", "unclassified", "undefined", "unknown", "void"),
    *UNMARKED,
}
LABEL_WORDS = re.compile("(area|class|label|pixel|region)s?$")


def is_nothing(name: str) -> bool:
    """Return whether a name in a file of names is that of no class: the value 0, or a word for it."""
    return _letters(name) in NOTHING or name.strip("\"' ") in ("0", "")


def is_unknown(name: str) -> bool:
    """Return whether the name of a class says that its pixels are unknown, such as ``__ignore__`` or ``Don't care``."""
    letters = _letters(name)
    return letters in UNKNOWN or LABEL_WORDS.sub("", letters) in UNKNOWN


def is_class(name: str) -> bool:
    """Return whether the name of a category is neither that of background nor that of unknown pixels."""
    return name.casefold() not in BACKGROUND and not is_unknown(name)


def _letters(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalpha())


class Remark(NamedTuple):
    """A kind of entry, and what it becomes."""

    becomes: str
    what: str  # in the plural; {} stands for a name, each of which is counted


# what is left out
NO_SHAPE = Remark("left out", "objects without outline or box")
NO_LABEL = Remark("left out", "regions without a label")
OTHER_SHAPE = Remark("left out", "shapes of the kind '{}'")
OTHER_REGION = Remark("left out", "regions of '{}'")
BACKGROUND_LEFT_OUT = Remark("left out", "regions of {}")
COVERED = Remark("left out", "objects wholly below regions of {}")
NOT_LISTED = Remark("left out", "annotations of photos that are not listed")
NO_TEXT_FILE = Remark("left out", "photos without a text file")
UNCONFIRMED = Remark("left out", "masks that nobody confirmed (--unconfirmed takes them)")
NO_JSON_FILE = Remark("left out", "photos without a JSON file")
OTHER_JSON = Remark("left out", "JSON files of other kinds")
NO_OUTLINE = Remark("left out", "parts of objects with fewer than three points")
# what is read in another way than it is written
HOLE = Remark("holes in the objects below", "regions of {}")
CROWD = Remark("unknown (255)", "crowd regions of {}")
UNKNOWN_REGIONS = Remark("unknown (255)", "regions of {}")
LONE_CROWD = Remark("read as objects", "crowd regions of {}, which has no other objects")
BOX = Remark("read as boxes", "objects whose outline is a box")
RECTANGLE = Remark("read as outlines", "objects of four corners at right angles each, as boxes are")
BRUSHED = Remark("read as objects", "run lengths with iscrowd 1 of {}")
BEYOND_MASK = Remark("cut at the photo's edges", "masks that reach beyond their photo")
BEYOND = Remark("cut at the photo's edges", "photos with outlines beyond their stated size")
EXCHANGED = Remark(
    "height and width exchanged", "photos with an EXIF orientation and outlines beyond their stated size"
)

REFUSED = {  # files of other programs that are not read -> keys in them
    "Datumaro's JSON": re.compile(rb'"categories"\s*:\s*\{|"dm_format_version"'),
    "Supervisely's JSON": re.compile(
        rb'"(classTitle|geometryType|projectType)"\s*:|"size"\s*:\s*\{\s*"(height|width)"'
    ),
    "JSON of the VGG Image Annotator": re.compile(rb'"shape_attributes"\s*:|"_via_'),
    "XML of CVAT or PASCAL VOC": re.compile(rb"\A\s*(<\?xml[^>]*>\s*)?<annotations?\b"),
}
INSTEAD = "export it in COCO's format"


class Remarks:
    """How often each kind of entry occurs in annotations."""

    def __init__(self) -> None:
        self._counts = Counter[tuple[Remark, str]]()
        self._examples: dict[Remark, str] = {}

    def add(self, remark: Remark, name: object = "", count: int = 1) -> None:
        """Count entries of a kind; ``name`` is theirs, or an example where the kind has no names."""
        if count <= 0:
            return
        has_names = "{}" in remark.what
        self._counts[remark, str(name) if has_names else ""] += count
        self._examples.setdefault(remark, "" if has_names else str(name))

    def add_named(self, remark: Remark, names: Sequence[str]) -> None:
        """Count the entries of a kind, whose first is its example."""
        if names:
            self.add(remark, names[0], len(names))

    def include(self, others: "Remarks") -> None:
        """Count the entries that others count too."""
        self._counts.update(others._counts)
        self._examples = others._examples | self._examples

    def lines(self) -> list[str]:
        """Return a line for each outcome: ``left out: regions without a label (3), regions of 'x' (1)``."""
        lines_of_outcome: dict[str, list[str]] = {}
        for (remark, name), count in self._counts.items():
            number = f"{count}"
            if self._examples[remark]:
                number += f", such as {self._examples[remark]}"
            lines_of_outcome.setdefault(remark.becomes, []).append(f"{remark.what.format(name)} ({number})")
        return [f"{outcome}: {', '.join(entries)}" for outcome, entries in lines_of_outcome.items()]


def refused_format(content: bytes) -> str:
    """Return the name of a file's format, of those that are not read here; '' if it has another."""
    return next((name for name, key in REFUSED.items() if key.search(content)), "")
