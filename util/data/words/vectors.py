"""Text vectors of class names from a file of word vectors, by the rule that reproduces the published tables.

Row 0 is the vector of the word 'background', row c that of the name of class c. A name of several words is looked up as
one word joined by underscores (teddy_bear). If the file has no such word, the vectors of its words are added without
normalising them first. Every row is then normalised to length 1. Each word is looked up as written, then in lower case,
Capitalised, and in capitals.

The published tables of PASCAL and COCO depart from this rule for 14 names, and so does this module, for every data set
with these names: aeroplane is looked up as airplane, tvmonitor as tv, pottedplant as potted_plant, diningtable as
table; and baseball bat, baseball glove, dining table, hair drier, hot dog, parking meter, sports ball, stop sign,
traffic light and wine glass are sums of their words even if the file has the joined word.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from util.data.words.files import Words, read_words
from util.data.words.text import NAMES, name_vectors, table_names
from util.errors import UserError

# The departures were derived from the published rows. GoogleNews vectors have 8 significant bits: a normalised row that
# is one word of the file becomes a row of 8-bit numbers when it is multiplied by its original length; a sum of words
# does not. 'dining table' minus 'diningtable' and 'hot dog' minus 'dog' are again rows of 8-bit numbers.
# Aeroplane, pottedplant and tvmonitor have the same rows as COCO's airplane, potted plant and tv. The rows do not show
# the spelling of a word in the file: airplane or aeroplane, tv or television, fire_hydrant or hydrant.
INSTEAD = {"aeroplane": "airplane", "diningtable": "table", "pottedplant": "potted plant", "tvmonitor": "tv"}
JOINED = {"diningtable": "dining table", "tvmonitor": "tv monitor"}  # tried if the file lacks the word above as well
ADDED = {"baseball bat", "baseball glove", "dining table", "hair drier", "hot dog", "parking meter", "sports ball"}
ADDED |= {"stop sign", "traffic light", "wine glass"}
MAX_NAMES_SHOWN = 3  # in an error message


def build_vectors(source: Path, classes: list[str], fill: bool = False) -> tuple[np.ndarray, list[str]]:
    """Return unit rows (classes + 1, T) float32 by this module's rule, and lines that list the exceptional rows.

    Args:
        source: a file of word vectors.
        fill: for names that the file lacks, make rows that depend on the name alone.

    Raises:
        UserError: the file cannot be read, or lacks names while ``fill`` is False.
    """
    names = table_names(classes)
    ways = {name: lookups(name) for name in names}
    words = _read_for(source, ways)
    rows: list[np.ndarray | None] = []
    respelt, missing = [], []
    for name in names:
        found = _first_found(words, ways[name])
        rows.append(_sum(words, found) if found else None)
        if not found:
            missing.append(name)
        elif found != [name]:
            respelt.append(f"{name} = {' + '.join(found)}")
    if missing and (not fill or len(missing) == len(names)):
        raise UserError(_missing_message(source, missing, ways, words))
    width = len(next(row for row in rows if row is not None))
    table = np.stack([name_vectors([n], width)[1] if r is None else r for n, r in zip(names, rows, strict=True)])
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    notes = [f"looked up under other spellings: {', '.join(respelt)}"] if respelt else []
    notes += [f"made from the name alone, without meaning: {', '.join(missing)}"] if missing else []
    return (table / lengths).astype(np.float32), notes


def find_row(source: Path, name: str) -> np.ndarray | None:
    """Return the unit row (T,) float32 of one name by this module's rule, None if the file has no word for it.

    Raises:
        UserError: the file cannot be read, or the vectors of the name's words add up to 0.
    """
    ways = lookups(name)
    words = _read_for(source, {name: ways})
    found = _first_found(words, ways)
    if not found:
        return None
    row = _sum(words, found)
    return (row / np.linalg.norm(row)).astype(np.float32)


def lookups(name: str) -> list[list[str]]:
    """Return the ways to look up a class name, best first; each is a list of words whose vectors are added."""
    ways = []
    for spelt in dict.fromkeys((INSTEAD.get(name, name), name, JOINED.get(name, name))):
        words = re.split(r"[\s_]+", spelt.strip())
        ways += [["_".join(words)]] if spelt not in ADDED or len(words) == 1 else []
        ways += [words] if len(words) > 1 else []
        parts = [part for word in words for part in word.split("-") if part]
        ways += [parts] if len(parts) > len(words) else []
    return ways


def _read_for(source: Path, ways: dict[str, list[list[str]]]) -> Words:
    """Read every word, in every spelling, that the ways to look up some names need."""
    wanted = {spelling for way in ways.values() for words in way for word in words for spelling in _spellings(word)}
    return read_words(source, wanted, {word for way in ways.values() for word in way[0]})


def _spellings(word: str) -> list[str]:
    titled = "_".join(part.capitalize() for part in word.split("_"))
    return list(dict.fromkeys((word, word.lower(), word.capitalize(), titled, word.upper())))


def _first_found(words: Words, ways: list[list[str]]) -> list[str] | None:
    """Return the words of the first way that the file can serve, as the file spells them; None if there is no such."""
    return next(filter(None, (_spelt(words, way) for way in ways)), None)


def _spelt(words: Words, way: list[str]) -> list[str] | None:
    """Return the words of a way as the file spells them; None if the file lacks one."""
    found = []
    for word in way:
        spelling = next((s for s in _spellings(word) if s in words.vectors), None)
        if spelling is None:
            return None
        found.append(spelling)
    return found


def _sum(words: Words, spelt: list[str]) -> np.ndarray:
    return np.sum([words.vectors[word].astype(np.float64) for word in spelt], axis=0)


def _missing_message(source: Path, missing: list[str], ways: dict[str, list[list[str]]], words: Words) -> str:
    """Return the message about names that a file lacks: each with its missing word and similar words of the file."""
    parts = []
    for name in missing[:MAX_NAMES_SHOWN]:
        absent = [w for w in ways[name][-1] if _spelt(words, [w]) is None]
        similar = list(dict.fromkeys(c for w in absent for c in words.close_to(w)))
        hint = f" (similar: {', '.join(similar)})" if similar else ""
        parts.append(f"'{name}'{hint}" if absent == [name] else f"'{name}', which needs '{absent[0]}'{hint}")
    more = f" and {len(missing) - MAX_NAMES_SHOWN} more" if len(missing) > MAX_NAMES_SHOWN else ""
    return (
        f"{source}: has no word for {'; '.join(parts)}{more}; use another file, rename the class, "
        f"or make such rows from the names alone with --missing {NAMES}"
    )
