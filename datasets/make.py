"""The making of a data set as its plan says: jobs in parallel, lists, a stamp, and counts beside the published ones."""

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from annotations.pictures import header_of, read_image
from datasets.recipes.recipe import MaskJob, Plan, Recipe, compare_count, is_read
from util.config.folder import LOCAL, config_folder
from util.files.errors import UserError
from util.files.folders import files_below
from util.files.images import UPRIGHT, check_photo
from util.files.mask_images import write_mask
from util.files.output_folders import link, made_aside, refuse_other_files
from util.files.parallel import parallel_map, result_or_error
from util.files.reading import kept_json
from util.files.writing import write_atomically

STAMP = "prepared.json"  # in a prepared folder: the options that it was made with, and facts about it
SHOWN_ERRORS = 5  # bad files that are named
EMPTY = "masks show no pixel of their class and are left out"


class MakeCommand:
    """The sub-command of ``prepare.py`` that makes a data set as a recipe says."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.__doc__ = recipe.help

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add this command's options."""
        recipe = self.recipe
        for option, text in recipe.given.items():
            parser.add_argument(f"--{option}", type=Path, required=option not in recipe.optional, help=text)
        add_out(parser, recipe.out or f"data/{recipe.name}")

    def run(self, options: argparse.Namespace) -> int:
        """Prepare the data set and print its counts; UserError: a file is bad, and no list is written then."""
        recipe = self.recipe
        if self._is_made(options):
            print(f"{options.out}: is made already; if its sources have changed, name another --out")
            return 0
        if not recipe.shares_folder:
            self._refuse_folder(options)
        plan = recipe.find(options)
        if not any(job.photo.exists() for job in plan.jobs):
            given = ", ".join(f"--{option} {getattr(options, option)}" for option in recipe.given)
            raise UserError(
                f"{given}: no photo of {recipe.name} was found",
                fix=f"prepare.py {recipe.name} --help shows the layouts",
            )
        configs = {Path(f"config/{recipe.name}/{name}"): text for name, text in plan.configs.items()}
        refuse_others(configs)
        self._make(plan, options)
        if configs:
            write_configs(configs)
            command = f"MODEL=multiprototype sh test.sh split0 {recipe.name} 1   (on a CPU: 0 instead of 1)"
            print(f"config: config/{recipe.name}/{recipe.name}.yaml; now: {command}")
        return 0

    def _words(self, options: argparse.Namespace) -> dict[str, str]:
        """Return the options that decide what is made."""
        return {name: str(getattr(options, name)) for name in (*self.recipe.given, "skip_bad")}

    def _is_made(self, options: argparse.Namespace) -> bool:
        """Return whether the folder was made with these options; UserError: with others."""
        stamp = options.out / STAMP
        if not stamp.exists():
            return False
        if kept_json(stamp).get("options") != self._words(options):
            made = stamp if self.recipe.shares_folder else options.out
            self.recipe.find(options)  # what is wrong with the sources is said first
            raise UserError(
                f"{options.out}: was made with other options, or by an earlier version",
                fix=f"remove {made} to make it anew, or name another --out",
            )
        return True

    def _make(self, plan: Plan, options: argparse.Namespace) -> None:
        """Run the jobs, write lists and stamp, and print the counts; raises as ``run_jobs`` does."""
        out = options.out
        with nullcontext(out) if self.recipe.shares_folder else made_aside(out, STAMP) as folder:
            facts = run_jobs(plan, folder, options.skip_bad)
            write_atomically(folder / STAMP, json.dumps({"options": self._words(options), **facts}, indent=2) + "\n")
        print(f"{out}: ready")
        _print_report(plan, facts)

    def _refuse_folder(self, options: argparse.Namespace) -> None:
        """Refuse (UserError) an ``--out`` that lies in the download or holds other files."""
        for option in self.recipe.given:
            source = getattr(options, option)
            if options.out.resolve().is_relative_to(source.resolve()):
                raise UserError(f"--out {options.out}: lies in --{option} {source}; name another --out")
        refuse_other_files(options.out, STAMP)


def add_out(parser: argparse.ArgumentParser, out: str) -> None:
    """Add ``--out`` and ``--skip-bad``."""
    parser.add_argument("--out", type=Path, default=Path(out), help=f"folder to create (default {out})")
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out missing or damaged files instead of stopping"
    )


def refuse_others(configs: Mapping[Path, str]) -> None:
    """Refuse (UserError) to write the texts of configs over files with other content."""
    for path, text in configs.items():
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise UserError(
                f"{path}: exists with other content (it was edited, or made with another --out or other classes)",
                fix="remove it and repeat",
            )


def write_configs(configs: Mapping[Path, str]) -> None:
    """Write the texts of configs."""
    begin_own_configs()
    for path, text in configs.items():
        write_atomically(path, text)


def _print_report(plan: Plan, facts: dict[str, Any]) -> None:
    """Print the sizes of the lists and the counts of classes beside the published ones, notes and remarks."""
    sizes = facts["sizes"]
    for part, size in sizes.items():
        print(f"  {compare_count(part, size, plan.published.get(part))}; list {facts['digests'][part][:12]}")
    for name, expected in plan.published.items():
        if name not in sizes:
            print(f"  {compare_count(name, facts['counts'].get(name, 0), expected)}")
    for note in plan.notes:
        print(f"  {note}")
    if facts["empty"]:
        print(f"  {facts['empty']} {EMPTY}")
    if facts["left_out"]:
        print(f"  {facts['left_out']} left out")


class Made(NamedTuple):
    """The result of a job: the line of its mask, empty if that shows no pixel."""

    line: str
    covered: tuple[int, ...] = ()  # as ``Piece`` has them


def run_jobs(plan: Plan, out: Path, skip_bad: bool) -> dict[str, Any]:
    """Run the jobs and write the lists; return facts for stamp and report.

    Args:
        plan: the jobs and the lists.
        out: the prepared folder.
        skip_bad: omit jobs that fail.

    Raises:
        UserError: a job fails and ``skip_bad`` is False, or a list is empty; no list is written then.
    """
    made = _make_all(plan, out, skip_bad)
    lists = _collect_lines(made, plan.parts)
    for part, lines in lists.items():
        if not lines:
            raise UserError(
                f"{out}: none of the {len(plan.jobs)} photos belongs to the list '{part}'", fix="check the download"
            )
    return {
        "sizes": {part: len(lines) for part, lines in lists.items()},
        "digests": {part: write_list(out / plan.lists / f"{part}.txt", lines) for part, lines in lists.items()},
        "counts": _class_counts(made, plan.classes),
        "empty": sum(not result.line for _, result in made),
        "left_out": len(plan.jobs) - len(made),
        "covered": Counter(class_id for _, result in made for class_id in result.covered),
    }


def _make_all(plan: Plan, out: Path, skip_bad: bool) -> list[tuple[MaskJob, Made]]:
    """Run the jobs in parallel; return those that did not fail with what they made."""
    shared_plan = replace(plan, jobs=())  # what other processes get with each job
    run_job = partial(result_or_error, partial(_write, plan=shared_plan, out=out))
    results = [*parallel_map(run_job, plan.jobs, "photos and masks")]
    _refuse_or_report([result for result in results if isinstance(result, UserError)], skip_bad)
    return [(job, result) for job, result in zip(plan.jobs, results, strict=True) if isinstance(result, Made)]


def _refuse_or_report(errors: list[UserError], skip_bad: bool) -> None:
    """Print the first errors of jobs; raise the first one unless bad files are skipped."""
    if errors and not skip_bad:
        others = f" (and {len(errors) - 1} more bad files)" if len(errors) > 1 else ""
        raise UserError(f"{errors[0]}{others}; --skip-bad leaves them out")
    for error in errors[:SHOWN_ERRORS]:
        print(f"left out: {error}")
    if len(errors) > SHOWN_ERRORS:
        print(f"left out: {len(errors) - SHOWN_ERRORS} more files")


def _collect_lines(made: list[tuple[MaskJob, Made]], parts: Sequence[str]) -> dict[str, list[str]]:
    """Return the lines of each list: of those that must be there (``parts``), then of those that jobs name."""
    lists: dict[str, list[str]] = {part: [] for part in parts}
    for job, result in made:
        for part in job.parts:
            lists.setdefault(part, []).append(result.line)
    return {part: [*filter(None, lines)] for part, lines in lists.items()}


def write_list(path: Path, lines: Sequence[str]) -> str:
    """Write a list of images and return its digest."""
    text = "".join(f"{line}\n" for line in lines)
    write_atomically(path, text)
    return hashlib.sha256(text.encode()).hexdigest()


def _class_counts(made: list[tuple[MaskJob, Made]], classes: Sequence[str]) -> Counter[str]:
    """Return the number of masks of each class, where masks are of one class, and of ``classes``."""
    shown = [job.class_id for job, result in made if job.class_id and result.line]
    counts = Counter(classes[class_id - 1] for class_id in shown if classes)
    counts["classes"] = len(counts)
    return counts


def _write(job: MaskJob, plan: Plan, out: Path) -> Made:
    """Read and write the mask and the photo of a job, or link them."""
    image = read_image(job.photo)
    piece = plan.read(job, image)
    if piece is None:
        return Made("")
    line = job.line
    mask, photo = (out / name for name in plan.outputs(job))
    is_plain = is_read(check_photo, job.photo)
    pixels = image if piece.photo is None and not is_plain else piece.photo
    if pixels is None:
        link(job.photo, photo)
    else:
        _, encoded = cv2.imencode(photo.suffix if is_plain else ".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        write_atomically(photo, encoded.tobytes())
    if isinstance(piece.mask, np.ndarray):
        write_mask(mask, piece.mask, stated=pixels is None and header_of(job.photo).orientation != UPRIGHT)
    elif mask.resolve() != piece.mask.resolve():
        mask.unlink(missing_ok=True)  # from an earlier preparation
        link(piece.mask, mask)
    return Made(line, piece.covered)


def begin_own_configs() -> None:
    """Let the working folder have a folder of all configs: links to those of the project, in real folders.

    A clone has it already; where the project is an installed package, a data set of one's own begins it.
    """
    project = config_folder()
    if project != LOCAL:
        for path in files_below(project):
            link(path, LOCAL / path.relative_to(project))
