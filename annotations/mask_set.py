"""The meaning of the numbers in a set of masks: one check of names, values and colours of all, before any is used."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from annotations.masks import MaskNames
from util.errors import UserError, note
from util.files.images import indices_of, opened_mask
from util.files.palette import IGNORE, Colours, palette_of, refuse_few_bits, voc_palette
from util.parallel import attempt, parallel_map

Colour = tuple[int, ...]  # red, green, blue
VOC_COLOURS: dict[Colour, int] = {
    tuple(colour): value for value, colour in enumerate(np.reshape(voc_palette(), (-1, 3)).tolist())
}
GREYS: dict[Colour, int] = {(level, level, level): level for level in range(256)}
FIX_OF_PALETTES = "name the colours in a labelmap.txt, name:red,green,blue, or save the masks as grey PNGs of class ids"
SHOWN = 3  # names in a line


@dataclass(frozen=True)
class MaskFacts:
    """The values of class ids in a mask, and their colours where its palette has them."""

    path: Path
    values: frozenset[int]
    colours: Mapping[int, Colour]  # value -> colour; empty where a label map reads the colours

    @property
    def marks_255_alone(self) -> bool:
        """Whether all that is marked is 255, which is unknown beside class ids."""
        return self.values - {0} == {IGNORE}


def facts_of(mask: Path, colours: Colours | None = None) -> MaskFacts:
    """Return the facts of a mask, by its ``colours`` if it has them; errors as ``read_mask``."""
    with opened_mask(mask) as image:
        refuse_few_bits(image, mask)
        indices = indices_of(image, mask, colours)
        values = np.unique(indices).tolist()
        palette = palette_of(image)
        is_by_palette = colours is None and image.mode == "P"
    shown = [value for value in values if value < len(palette)] if is_by_palette else []
    return MaskFacts(mask, frozenset(values), {value: tuple(palette[value].tolist()) for value in shown})


def facts_of_all(masks: Sequence[Path], colours: Colours | None = None) -> list[MaskFacts | UserError]:
    """Return the facts of each mask, or why it does not hold class ids; a bar shows the progress of many."""
    read = partial(attempt, partial(facts_of, colours=colours))
    return [*parallel_map(read, masks, "masks", progress=len(masks) > SHOWN)]


def check_set(facts: Sequence[MaskFacts], known: MaskNames) -> None:
    """Refuse (UserError) masks whose colours or names leave open what their values are; a line says what none shows."""
    check_palettes(facts, len(known.names))
    _check_names(facts, known)


def check_palettes(facts: Iterable[MaskFacts], classes: int) -> None:
    """Refuse (UserError) palettes that were reduced to the colours in use: their indices are not values of classes.

    Then an index has two colours, or all colours are PASCAL VOC's, or of grey, and one is that of another value up to
    ``classes``, or of 255.
    """
    palettes = Palettes()
    for mask in facts:
        palettes.add(mask)
    shown = {value: seen for value, seen in palettes.first_of_value.items() if value != IGNORE}
    colours = [colour for _, colour in shown.values()]
    for scale in (VOC_COLOURS, GREYS):
        if not all(colour in scale for colour in colours):
            continue
        for value, (path, colour) in shown.items():
            other = scale[colour]
            is_of_class = 0 < other <= classes or (other == IGNORE and scale is VOC_COLOURS)
            if other != value and is_of_class:
                problem = f"its palette gives the value {value} the colour {colour}, which usually stands for {other}"
                raise UserError(f"{path}: {problem}: was it reduced to the colours in use? {FIX_OF_PALETTES}")


class Palettes:
    """The colours that the palettes of masks give to values: each has one."""

    def __init__(self) -> None:
        self.first_of_value: dict[int, tuple[Path, Colour]] = {}

    def add(self, mask: MaskFacts) -> None:
        """Take a further mask; UserError: a value of it has another colour than before."""
        for value, colour in mask.colours.items():
            first, known = self.first_of_value.setdefault(value, (mask.path, colour))
            if known != colour:
                problem = f"its palette gives the value {value} the colour {colour}, but in {first} it has {known}"
                raise UserError(f"{mask.path}: {problem}; {FIX_OF_PALETTES}")


def _check_names(facts: Sequence[MaskFacts], known: MaskNames) -> None:
    """Refuse (UserError) names that seem to begin with that of 0; else a line says which no mask shows."""
    shown = frozenset[int]().union(*(mask.values for mask in facts))
    absent = {value: name for value, name in known.classes.items() if value not in shown}
    if not absent or len(absent) == len(known.classes):
        return
    first, last = min(known.names), max(known.names)
    counts_from_1 = not known.states_values and known.colours is None
    if counts_from_1 and [*absent] == [last] and 0 in shown:
        problem = (
            f"no mask holds the value {last} of the last name, '{known.names[last]}', but 0 to {last - 1} are there"
        )
        fix = f"does the first line, '{known.names[first]}', name the value 0? write the value before each name, as in"
        raise UserError(f"{known.path}: {problem}; {fix} 1: {known.names[first]}")
    names = ", ".join(f"{name} ({value})" for value, name in [*absent.items()][:SHOWN])
    others = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
    first_line = f"; its first line, '{known.names[first]}', is the value 1" if counts_from_1 else ""
    note(f"{known.path}: left out, in no mask: {names}{others}{first_line}")


def masks_of_255(facts: Iterable[MaskFacts]) -> list[Path]:
    """Return the masks in which 255 is all that is marked; none if no mask holds class ids."""
    facts = [*facts]
    holds_ids = any(mask.values - {0, IGNORE} for mask in facts)
    return [mask.path for mask in facts if holds_ids and mask.marks_255_alone]


def photos_with(facts: Iterable[MaskFacts]) -> Counter[int]:
    """Return in how many masks each value but 0 and 255 occurs."""
    return Counter(value for mask in facts for value in mask.values - {0, IGNORE})
