"""The steps that data sets with one mask per photo and class share: check, write masks, link photos, write lists.

A prepared folder holds ``images`` (links), ``masks/<name>.png`` (0 and 1) and ``lists/<part>.txt``, whose lines are as
in ``util/data/lists/class_masks.py``.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from util.config.read import read_data
from util.config.settings import DataSettings
from util.errors import UserError
from util.files import REPOSITORY, fingerprint, write_atomically
from util.parallel import attempt, parallel_map
from util.prepare.common import STAMP, already_done, compare_count, keep_good, mark_done

IMAGES, MASKS, LISTS = "images", "masks", "lists"
MADE_FROM = "made_from.txt"  # fingerprint in --out; outputs that are older than it are outdated
SHOWN_DIGITS = 12  # of a list's digest
Job = TypeVar("Job")


@dataclass(frozen=True)
class Mask:
    """One mask of one class to prepare.

    Attributes:
        part: of the data set: train, validation or test.
        name: of the prepared mask, without suffix.
        class_id: 1-based.
        photo_name: name of the prepared photo.
        photo, source: the files given.
    """

    part: str
    name: str
    class_id: int
    photo_name: str
    photo: Path
    source: Path


@dataclass(frozen=True)
class Made:
    """The lines that a job adds to the lists, as (part, name, class id, photo name), and what it met."""

    lines: tuple[tuple[str, str, int, str], ...] = ()
    empty: int = 0  # masks without a pixel of the class, which are left out
    resized: int = 0  # masks of another size than their photo


@dataclass(frozen=True)
class Facts:
    """Facts about a prepared data set, kept in its stamp.

    Attributes:
        masks: part -> number of masks.
        per_class: class name -> number of masks.
        digests: part -> SHA-256 of the list.
        left_out: number of jobs that failed.
        notes: other lines to print.
    """

    masks: dict[str, int]
    per_class: dict[str, int]
    digests: dict[str, str]
    left_out: int
    notes: list[str]


def settings_of(dataset: str) -> DataSettings:
    """Return the data settings of a data set of this project."""
    return read_data(REPOSITORY / "config" / dataset / f"{dataset}.yaml")


def make_all(
    out: Path,
    jobs: Sequence[Job],
    make: Callable[[Job, Path, int], Made],
    sources: Iterable[Path],
    classes: Sequence[str],
    notes: Sequence[str] = (),
    skip_bad: bool = False,
    described: bool = True,
) -> Facts:
    """Run every job that is not done, write the lists and the stamp, and return the facts.

    Args:
        make: of a job, ``out`` and the time (ns) from which on outputs there are up to date.
        sources: the files that the data set is made from.
        notes: lines to print and keep.
        described: whether the words of the jobs are part of the fingerprint; not where ``sources`` say all of it.

    Raises:
        UserError: a job fails and ``skip_bad`` is False; no list is written then.
    """
    words = map(str, jobs) if described else ()
    made_from = fingerprint(sources, *words, *classes, lacking="this file does not exist; restore it")
    stamp = already_done(out, made_from, [])
    if stamp is not None and (skip_bad or not stamp["left_out"]) and _is_complete(out, stamp["digests"]):
        print(f"{out}: is complete already; nothing to do")
        return Facts(**{key: value for key, value in stamp.items() if key != "made_from"})
    marker = out / MADE_FROM
    if not marker.exists() or marker.read_text() != made_from:
        for old in (out / LISTS).glob("*.txt"):
            old.unlink()
        write_atomically(marker, made_from)
    one = partial(attempt, partial(_call, make=make, out=out, since=marker.stat().st_mtime_ns))
    good = keep_good(range(len(jobs)), parallel_map(one, jobs, "photos and masks"), skip_bad)
    facts = _write_lists(out, list(good.values()), classes, len(jobs) - len(good), list(notes))
    mark_done(out, made_from, **asdict(facts))
    print(f"{out}: ready")
    return facts


def _call(job: Job, make: Callable[[Job, Path, int], Made], out: Path, since: int) -> Made:
    """Run a job."""
    made = make(job, out, since)
    for word in (word for _, name, _, photo in made.lines for word in (name, photo)):
        if not word.isprintable() or len(word.split()) != 1:
            raise UserError(f"{word}: a list cannot hold a file name with a space or a line break; rename the file")
    return made


def _write_lists(out: Path, made: list[Made], classes: Sequence[str], left_out: int, notes: list[str]) -> Facts:
    """Write the list of each part; return the facts."""
    parts: dict[str, list[str]] = {}
    per_class: Counter[str] = Counter()
    for part, name, class_id, photo in (line for of_job in made for line in of_job.lines):
        parts.setdefault(part, []).append(f"{name} {class_id} {photo}\n")
        per_class[classes[class_id - 1]] += 1
    if not parts:
        raise UserError(f"{out}: no mask can be used; check --root")
    for part, lines in parts.items():
        write_atomically(out / LISTS / f"{part}.txt", "".join(lines))
    for count, what in (
        (sum(m.empty for m in made), "masks show no pixel of their class and are left out"),
        (sum(m.resized for m in made), "masks had another size than their photo and were resized to it"),
    ):
        if count:
            notes.append(f"{count} {what}")
    digests = {part: hashlib.sha256("".join(lines).encode()).hexdigest() for part, lines in parts.items()}
    sizes = {part: len(lines) for part, lines in parts.items()}
    return Facts(sizes, dict(per_class), digests, left_out, notes)


def _is_complete(out: Path, digests: dict[str, str]) -> bool:
    """Return whether the lists are as they were written, and mask and photo of each of their lines exist."""
    try:
        lists = {part: (out / LISTS / f"{part}.txt").read_bytes() for part in digests}
    except OSError:
        return False
    if any(hashlib.sha256(content).hexdigest() != digests[part] for part, content in lists.items()):
        return False
    lines = (line.split() for content in lists.values() for line in content.decode().splitlines())
    masks = ((out / MASKS / f"{name}.png", out / IMAGES / photo) for name, _, photo in lines)
    return all(mask.exists() and photo.exists() for mask, photo in masks)


def print_facts(facts: Facts, published: dict[str, int], per_class: dict[str, int] | None = None) -> None:
    """Print the numbers of masks beside the documented ones.

    Args:
        published: part -> documented number of masks.
        per_class: class name -> the same; None prints no classes.
    """
    for part, count in facts.masks.items():
        line = compare_count(f"{part}: masks", count, published.get(part))
        print(f"  {line}; list {facts.digests[part][:SHOWN_DIGITS]}")
    for name, count in (per_class or {}).items():
        print("  " + compare_count(name, facts.per_class.get(name, 0), count))
    for note in facts.notes:
        print(f"  {note}")
    if facts.left_out:
        print(f"  {facts.left_out} omitted; without --skip-bad they are tried again")


def refuse_repeated(masks: Sequence[Mask], skip_bad: bool) -> list[Mask]:
    """Return the masks, each name once.

    Raises:
        UserError: two files are the same mask, and ``skip_bad`` is False.
    """
    first: dict[str, Mask] = {}
    for mask in masks:
        before = first.setdefault(mask.name, mask)
        if before is mask:
            continue
        if not skip_bad:
            raise UserError(
                f"{before.source} and {mask.source} are both {mask.name}; remove one (--skip-bad: the second)"
            )
        print(f"omitted: {mask.source}, which is {mask.name} again")
    return list(first.values())


def by_name(files: Iterable[Path], pattern: re.Pattern[str], skip_bad: bool) -> dict[str, Path]:
    """Return the files that a pattern matches, by its first group in capitals.

    Raises:
        UserError: two files have one name, and ``skip_bad`` is False.
    """
    out: dict[str, Path] = {}
    for path in files:
        match = pattern.fullmatch(path.name)
        if match is None:
            continue
        name = match[1].upper()
        before = out.setdefault(name, path)
        if before is not path:
            if not skip_bad:
                raise UserError(f"{before} and {path} are both {name}; remove one (--skip-bad: the second)")
            print(f"omitted: {path}, which is {name} again")
    return out


def check_root(root: Path, out: Path) -> None:
    """Refuse a --root that does not exist or in which the prepared data would lie, and an --out of other files.

    Raises:
        UserError: names it.
    """
    if not root.is_dir():
        raise UserError(f"--root {root}: this folder does not exist; name the unpacked download")
    if root.resolve() in (out.resolve(), *out.resolve().parents):
        raise UserError(f"--out {out}: lies in --root {root}; name another --out")
    if out.is_dir():
        there = {path.name for path in out.iterdir() if not path.name.startswith(".")}
        if not there or there & {MADE_FROM, STAMP}:
            return
    if out.exists():
        raise UserError(f"--out {out}: holds other files; remove it, or name another --out")
