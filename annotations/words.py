"""Words in the names of classes that say that pixels are of none: background, and unknown pixels."""

import re

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
