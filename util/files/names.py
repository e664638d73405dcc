"""Names of files: which are hidden, which stay in their folder, and how a class is named in them."""

import re

SYSTEM_FILES = ("thumbs.db", "desktop.ini", "__macosx", "@eadir")  # in lower case: what systems put beside files


def file_word(name: str) -> str:
    """Return a class's name as it is written in the names of files."""
    return re.sub(r"[^\w-]+", "_", name)


def own_name(text: str) -> str:
    """Return the name of a file that another file in its folder states; ValueError: it leads elsewhere."""
    if text in ("", ".", "..") or not {"/", "\\", "\0"}.isdisjoint(text):
        raise ValueError(f"'{text}' is no name of a file in its folder")
    return text


def is_hidden(name: str) -> bool:
    """Return whether a file or a folder of a name is hidden, or one of ``SYSTEM_FILES``."""
    return name.lower().startswith((".", *SYSTEM_FILES))
