"""Check all masks of a set together, before any is used: whether their values, colours, edges and names agree."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from annotations.mask_formats import Colour, Colours, indices_of, opened_mask
from annotations.mask_names import MaskNames
from util.files.errors import UserError, note
from util.files.palette import IGNORE, palette_of
from util.files.parallel import parallel_map, result_or_error

SHOWN_VALUES = 8  # values in a line
MANY = 0.1  # of all masks
REACH = 4  # pixels from a band to both of its neighbours, at most
IN_BANDS = 0.9  # of the pixels of a value that lies in bands
SMOOTH = 0.25  # of the steps between values, from which on edges are smooth


@dataclass(frozen=True)
class MaskFacts:
    """The values of class ids in a mask, and their colours where its palette has them."""

    path: Path
    values: frozenset[int]
    colours: Mapping[int, Colour]  # value -> colour; empty where a label map reads the colours
    bands: frozenset[int] = frozenset()  # of the values, those that lie as interpolation leaves them

    @property
    def marks_255_alone(self) -> bool:
        """Whether all that is marked is 255, which is unknown beside class ids."""
        return self.values - {0} == {IGNORE}


def facts_of(mask: Path, colours: Colours | None = None) -> MaskFacts:
    """Return the facts of a mask, by its ``colours`` if it has them; raises as ``read_indices`` does."""
    with opened_mask(mask) as image:
        indices = indices_of(image, mask, colours)
        palette = palette_of(image)
    values = np.unique(indices).tolist()
    shown = values if colours is None else []
    colour_of_value = {value: tuple(palette[value].tolist()) for value in shown if value < len(palette)}
    return MaskFacts(mask, frozenset(values), colour_of_value, _bands_in(indices))


def _bands_in(values: np.ndarray) -> frozenset[int]:
    """Return the values of a mask (H, W) uint8 that lie between lower and higher ones alone, as interpolation mixes.

    None where most steps of the mask pass no such value: then it is of real borders, such as a kerb.
    """
    lowest, highest = _ends(values, REACH)
    pixels = _count(values)
    between = _count(values[(lowest < values) & (values < highest)])
    is_band = (pixels > 0) & (between >= IN_BANDS * pixels)
    is_band[IGNORE] = False
    lowest, highest = _ends(values, 1)
    is_step = cv2.subtract(highest, lowest) > 1
    _, at_band = _ends(is_band[values].astype(np.uint8), 1)
    is_smooth = (is_step & (at_band > 0)).sum() >= SMOOTH * is_step.sum()
    return frozenset(np.flatnonzero(is_band & is_smooth).tolist())


def _ends(values: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest value within so many pixels of each."""
    window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    return cv2.erode(values, window), cv2.dilate(values, window)


def _count(values: np.ndarray) -> np.ndarray:
    """Return how many pixels have each value, (256,)."""
    return np.bincount(values.reshape(-1), minlength=IGNORE + 1)


def facts_of_all(masks: Sequence[Path], colours: Colours | None = None) -> list[MaskFacts | UserError]:
    """Return the facts of each mask, or the UserError that says why it holds no class ids; a bar shows the progress."""
    return [*parallel_map(partial(result_or_error, partial(facts_of, colours=colours)), masks, "masks")]


def check_set(facts: Sequence[MaskFacts], known: MaskNames) -> None:
    """Refuse (UserError) masks whose colours, edges or names leave open what their values are; notes tell the rest."""
    check_palettes(facts)
    _check_edges(facts)
    _check_names(facts, known)


def check_palettes(facts: Iterable[MaskFacts]) -> None:
    """Refuse (UserError) palettes that were reduced to the colours in use: an index has two colours, and no meaning."""
    first_of_value: dict[int, tuple[Path, Colour]] = {}
    for mask in facts:
        for value, colour in mask.colours.items():
            first, known = first_of_value.setdefault(value, (mask.path, colour))
            if known != colour:
                raise UserError(
                    f"{mask.path}: its palette gives the value {value} the colour {colour}, "
                    f"but in {first} it has {known}",
                    fix="were palettes reduced to the colours in use? name the colours in a labelmap.txt, "
                    "name:red,green,blue, or save the masks as grey PNGs of class ids",
                )


def _check_edges(facts: Sequence[MaskFacts]) -> None:
    """Refuse (UserError) masks of which many have smooth edges, where values lie only in bands along these."""
    smooth = [mask for mask in facts if mask.bands]
    if smooth and len(smooth) >= MANY * len(facts):
        in_bands = sorted({value for mask in smooth for value in mask.bands})
        raise UserError(
            f"{smooth[0].path}: values such as {', '.join(map(str, in_bands[:SHOWN_VALUES]))} lie only in thin bands "
            f"along edges, between others, as interpolation makes them ({len(smooth)} of {len(facts)} masks)",
            fix="resize and rotate masks by nearest neighbour and never save them as JPEG; a class of thin borders "
            "needs a value above those on both sides",
        )


def _check_names(facts: Sequence[MaskFacts], known: MaskNames) -> None:
    """Refuse (UserError) names that seem to begin with value 0; print the names that no mask shows, and the unknown."""
    shown = {*chain.from_iterable(mask.values for mask in facts)}
    if known.unknown:
        note(f"{known.path}: unknown (255): {_named(known.unknown)}")
    absent = {value: name for value, name in known.classes.items() if value not in shown}
    if not 0 < len(absent) < len(known.classes):
        return
    counts_from_1 = not known.states_values and known.colours is None
    first, last = min(known.names), max(known.names)
    if counts_from_1 and [*absent] == [last] and 0 in shown:
        raise UserError(
            f"{known.path}: no mask holds the value {last} of the last name, '{known.names[last]}'",
            fix=f"does the first line, '{known.names[first]}', name the value 0? write the value before each name, "
            f"as in 1: {known.names[first]}",
        )
    first_line = f"; its first line, '{known.names[first]}', is the value 1" if counts_from_1 else ""
    note(f"{known.path}: left out, in no mask: {_named(absent)}{first_line}")


def _named(names: Mapping[int, str]) -> str:
    """Return some names with their values."""
    return ", ".join(f"{name} ({value})" for value, name in names.items())


def masks_of_255(facts: Sequence[MaskFacts]) -> list[Path]:
    """Return the masks in which 255 is all that is marked; none if no mask holds class ids."""
    return [mask.path for mask in facts if mask.marks_255_alone] if photos_with(facts) else []


def photos_with(facts: Iterable[MaskFacts]) -> Counter[int]:
    """Return in how many masks each value but 0 and 255 occurs."""
    return Counter(value for mask in facts for value in mask.values - {0, IGNORE})
