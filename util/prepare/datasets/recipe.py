"""How every data set is made: the recipe says which jobs, and this module runs them and writes the lists.

A recipe is a module of this package: its docstring is the help of its command, ``ROOT`` that of ``--root``, and
``find(options)`` returns its ``Plan``. PASCAL and COCO have commands of their own around the same ``make``.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from util.config.read import read_data
from util.errors import UserError
from util.files import REPOSITORY, fingerprint, kept_json, write_atomically
from util.parallel import attempt, parallel_map
from util.prepare.common import STAMP, add_common_options, already_done, compare_count, keep_good, mark_done

IMAGES, MASKS, LISTS = "images", "masks", "lists"
MADE_FROM = "made_from.txt"  # fingerprint in --out; outputs that are older than it are outdated
RULES = 2  # raise when the same sources give other files
EMPTY = "masks show no pixel of their class and are left out"
RESIZED = "masks had another size than their photo and were resized to it"
SHOWN_DIGITS = 12  # of a list's digest
Value = TypeVar("Value")


@dataclass(frozen=True)
class Made:
    """The result of a job: lines of lists as (part, line), and the classes or sentences as which it is counted."""

    lines: tuple[tuple[str, str], ...] = ()
    counted: tuple[str, ...] = ()


def mask_outputs(line: str) -> tuple[str, ...]:
    """Return the files of a line of a list of masks of one class each: mask, class id, photo."""
    name, _, photo = line.split()
    return f"{MASKS}/{name}.png", f"{IMAGES}/{photo}"


@dataclass(frozen=True)
class Plan:
    """The jobs, sources and lists of a data set.

    Attributes:
        jobs: returns the jobs, in the order of the lines of the lists; called unless the data set is complete.
        make: of a job, ``out`` (the folder) and ``since``, the time (ns) from which on outputs there are up to date.
        sources: the files that the data set is made from; a missing one is left to the job that reads it.
        words: what else decides the result.
        parts: the lists that must not be empty.
        published: list, class or sentence -> its documented count, None if there is none; these are printed.
        outputs: of a line of a list, the files under ``--out`` that it stands for.
        finish: called at the end with the facts.
    """

    jobs: Callable[[], Sequence[Any]]
    make: Callable[..., Made]
    sources: Iterable[Path]
    words: Iterable[Any] = ()
    notes: Sequence[str] = ()
    parts: Sequence[str] = ("test",)
    published: dict[str, Any] | None = None
    outputs: Callable[[str], tuple[str, ...]] = mask_outputs
    lists: Path = Path(LISTS)
    finish: Callable[[Facts], None] | None = None


@dataclass(frozen=True)
class Facts:
    """Facts about a prepared data set, kept in its stamp.

    Attributes:
        sizes: part -> number of lines.
        digests: part -> SHA-256 of the list.
        counts: of classes and sentences.
        left_out: number of jobs that failed.
    """

    sizes: dict[str, int]
    digests: dict[str, str]
    counts: dict[str, int]
    left_out: int


class Recipe:
    """The sub-command of ``prepare.py`` that makes a data set as a module says."""

    def __init__(self, module: ModuleType):
        self.module, self.__doc__ = module, module.__doc__
        self.out = f"data/{module.__name__.rpartition('.')[2]}"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add this command's options."""
        parser.add_argument("--root", type=Path, required=True, help=self.module.ROOT)
        add_common_options(parser, self.out)
        parser.add_argument("--config-dir", type=Path, default=Path("config"), help=argparse.SUPPRESS)

    def run(self, options: argparse.Namespace) -> int:
        """Prepare the data set and print its counts.

        Raises:
            UserError: a file is missing, damaged or of another form; no list is written then.
        """
        check_root(options.root, options.out)
        make(self.module.find(options), options.out, options.skip_bad)
        return 0


def classes_of(dataset: str) -> list[str]:
    """Return the classes of a data set of this project."""
    return read_data(REPOSITORY / "config" / dataset / f"{dataset}.yaml").classes


def make(plan: Plan, out: Path, skip_bad: bool) -> None:
    """Run every job that is not done, write the lists and the stamp, and print the counts.

    Raises:
        UserError: a job fails and ``skip_bad`` is False; no list is written then.
    """
    made_from = fingerprint((path for path in plan.sources if path.exists()), RULES, *plan.words)
    stamp = already_done(out, made_from, [])
    if stamp is not None and (skip_bad or not stamp["left_out"]) and _is_complete(plan, out, stamp["digests"]):
        print(f"{out}: is complete already; nothing to do")
        facts = Facts(**{key: value for key, value in stamp.items() if key != "made_from"})
    else:
        facts = _make(plan, out, made_from, skip_bad)
        mark_done(out, made_from, **asdict(facts))
        print(f"{out}: ready")
    published = plan.published or {}
    for part, size in facts.sizes.items():
        print(f"  {compare_count(part, size, published.get(part))}; list {facts.digests[part][:SHOWN_DIGITS]}")
    for name in (name for name in published if name not in facts.sizes):
        print("  " + compare_count(name, facts.counts.get(name, 0), published[name]))
    for note in (*plan.notes, *(f"{count} {what}" for what, count in facts.counts.items() if what in (EMPTY, RESIZED))):
        print(f"  {note}")
    if facts.left_out:
        print(f"  {facts.left_out} omitted; without --skip-bad they are tried again")
    if plan.finish is not None:
        plan.finish(facts)


def _make(plan: Plan, out: Path, made_from: str, skip_bad: bool) -> Facts:
    """Run the jobs and write the lists."""
    marker, jobs = out / MADE_FROM, plan.jobs()
    if not marker.exists() or marker.read_text() != made_from:
        for part in {*plan.parts, *(plan.published or ()), *kept_json(out / STAMP).get("sizes", {})}:
            (out / plan.lists / f"{part}.txt").unlink(missing_ok=True)
        write_atomically(marker, made_from)
    one = partial(attempt, partial(plan.make, out=out, since=marker.stat().st_mtime_ns))
    made = list(keep_good(range(len(jobs)), parallel_map(one, jobs, "photos and masks"), skip_bad).values())
    lists: dict[str, list[str]] = {part: [] for part in plan.parts}
    for part, line in (line for of_job in made for line in of_job.lines):
        lists.setdefault(part, []).append(f"{line}\n")
    for part, lines in lists.items():
        if not lines:
            raise UserError(f"{out}: none of the {len(jobs)} jobs gives a line of {part}; check the download")
    texts = {part: "".join(lines) for part, lines in lists.items()}
    for part, text in texts.items():
        write_atomically(out / plan.lists / f"{part}.txt", text)
    return Facts(
        {part: len(lines) for part, lines in lists.items()},
        {part: hashlib.sha256(text.encode()).hexdigest() for part, text in texts.items()},
        dict(Counter(word for of_job in made for word in of_job.counted)),
        len(jobs) - len(made),
    )


def _is_complete(plan: Plan, out: Path, digests: dict[str, str]) -> bool:
    """Return whether the lists are as they were written, and the outputs of each of their lines exist."""
    for part, digest in digests.items():
        path = out / plan.lists / f"{part}.txt"
        content = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(content).hexdigest() != digest:
            return False
        if not all((out / name).exists() for line in content.decode().splitlines() for name in plan.outputs(line)):
            return False
    return True


def one_each(found: Iterable[tuple[str, Value]], skip_bad: bool) -> dict[str, Value]:
    """Return files by name, each name once.

    Raises:
        UserError: two files have one name, and ``skip_bad`` is False.
    """
    out: dict[str, Value] = {}
    for name, path in found:
        before = out.setdefault(name, path)
        if before is not path and not skip_bad:
            raise UserError(f"{before} and {path} are both {name}; remove one (--skip-bad: the second)")
        if before is not path:
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
