"""Values of a config that do not fit, in words: where each was written, and what an unknown key means."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from util.config.bam import bam_hint
from util.config.compose import Source
from util.config.same import settings_in
from util.config.settings import Sections
from util.config.tree import ENCODERS, NET, Tree, place_of, place_written
from util.files.errors import Refusals
from util.files.typecheck import UNKNOWN, Misfit, NoSection, UnknownKey

ELSEWHERE = {  # names that other programs give to settings
    **dict.fromkeys(("max_steps", "max_iter"), "epochs"),
    **dict.fromkeys(("episodes", "iterations", "steps"), "epoch_length"),  # of stages
}
OF_FILES = {
    "base": "name the file itself",
    **dict.fromkeys((ENCODERS, NET), "name the encoder by NET= before the command"),
}


def refusals(misfits: Sequence[Misfit], tree: Tree, source: Source, content: dict[str, Any]) -> Refusals:
    """Return a line for each misfit of a config's tree, in the order of their places; ``content``: its values."""
    lines = []
    for named in misfits:
        for misfit in (named, *_within(named, content)):
            place = place_written(tree, source.file, misfit.key) or place_of(tree, misfit.key) or source
            lines.append(f"{place}: {_in_words(misfit, content)}")
    return Refusals(sorted(lines, key=_file_and_line))


def _within(misfit: Misfit, content: dict[str, Any]) -> Iterator[Misfit]:
    """Yield a Misfit for each key of BAM's in a section of BAM's."""
    section = content.get(misfit.key)
    if isinstance(section, dict) and bam_hint(misfit.key):
        yield from (UnknownKey(f"{misfit.key}.{name}", UNKNOWN) for name in section if bam_hint(name))


def _file_and_line(message: str) -> tuple[str, int]:
    """Return the file that a message names first, and the number of its line; of one without a line '' and 0."""
    place = re.match(r"(.+?):(\d+): ", message)
    return (place[1], int(place[2])) if place else ("", 0)


def _in_words(misfit: Misfit, content: dict[str, Any]) -> str:
    """Return a misfit's text; an unknown key may belong to files, to BAM's configs or to another section."""
    if isinstance(misfit, NoSection):
        return _elsewhere(misfit.key, content) or str(misfit)
    if not isinstance(misfit, UnknownKey):
        return str(misfit)
    if misfit.key in OF_FILES:
        return f"'{misfit.key}' is a key of files; {OF_FILES[misfit.key]}"
    return bam_hint(misfit.key.rpartition(".")[2]) or _elsewhere(misfit.key, content) or str(misfit)


def _elsewhere(key: str, content: dict[str, Any]) -> str:
    """Say which settings have the last name of a key, those of its section if there are some; '': none."""
    section, _, name = key.rpartition(".")
    name = ELSEWHERE.get(name, name)
    named = [other for other, setting in settings_in(Sections, content) if setting.name == name and other != key]
    below = [other for other in named if other.startswith(f"{section}.")]
    return f"{UNKNOWN} '{key}'; write {' or '.join(below or named)}" if named else ""
