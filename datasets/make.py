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
from datasets.recipes.recipe import MaskJob, Piece, Plan, Recipe, compare_count, is_read
from util.config.folder import OWN, config_folder
from util.files import files_below, fingerprint, kept_json, state_of, write_atomically
from util.files.errors import UserError
from util.files.images import UPRIGHT, check_photo
from util.files.made import link, made_aside, refuse_other_files
from util.files.mask_images import write_mask
from util.files.parallel import attempt, parallel_map

STAMP = "prepared.json"  # in a prepared folder: fingerprint of its sources, and facts about it
RULES = 3  # raise when the same sources give other files
SHOWN_ERRORS = 5  # bad files that are named
EMPTY = "masks show no pixel of their class and are left out"
RESIZED = "masks had another size than their photo and were resized to it"


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
        if recipe.download:
            parser.add_argument("--download", action="store_true", help=recipe.download)
        add_out(parser, recipe.out or f"data/{recipe.name}")

    def run(self, options: argparse.Namespace) -> int:
        """Prepare the data set and print its counts; UserError: a file is bad, and no list is written then."""
        recipe = self.recipe
        if not recipe.shares_folder:
            self._refuse_folder(options)
        plan = recipe.find(options)
        if not callable(plan.jobs) and not any(job.photo.exists() for job in plan.jobs):
            given = ", ".join(f"--{option} {getattr(options, option)}" for option in recipe.given)
            fix = f"prepare.py {recipe.name} --help shows the layouts"
            raise UserError(f"{given}: no photo of {recipe.name} was found; {fix}")
        configs = {Path(f"config/{recipe.name}/{name}"): text for name, text in plan.configs.items()}
        refuse_others(configs)
        make(plan, options.out, options.skip_bad, in_place=recipe.shares_folder)
        if configs:
            write_configs(configs)
            command = f"MODEL=multiprototype sh test.sh split0 {recipe.name} 1   (on a CPU: 0 instead of 1)"
            print(f"config: config/{recipe.name}/{recipe.name}.yaml; now: {command}")
        return 0

    def _refuse_folder(self, options: argparse.Namespace) -> None:
        """Refuse (UserError) an ``--out`` that lies in the download or holds other files."""
        out = options.out.resolve()
        for option in self.recipe.given:
            source = getattr(options, option)
            if source.resolve() in (out, *out.parents):
                raise UserError(f"--out {options.out}: lies in --{option} {source}; name another --out")
        refuse_other_files(options.out, STAMP)


def add_out(parser: argparse.ArgumentParser, out: str) -> None:
    """Add ``--out`` and ``--skip-bad``."""
    parser.add_argument("--out", type=Path, default=Path(out), help=f"folder to create (default {out})")
    skip = "leave out missing or damaged files instead of stopping"
    parser.add_argument("--skip-bad", action="store_true", help=skip)


def refuse_others(configs: Mapping[Path, str]) -> None:
    """Refuse (UserError) to write the texts of configs over files with other content."""
    for path, text in configs.items():
        if path.exists() and path.read_text(encoding="utf-8") != text:
            why = "it was edited, or made with another --out or other classes"
            raise UserError(f"{path}: exists with other content ({why}); remove it and repeat")


def write_configs(configs: Mapping[Path, str]) -> None:
    """Write the texts of configs."""
    begin_own_configs()
    for path, text in configs.items():
        write_atomically(path, text)


def make(plan: Plan, out: Path, skip_bad: bool, in_place: bool = True) -> None:
    """Run the jobs, write lists and stamp, and print the counts; errors as ``run_jobs``.

    Args:
        plan: the jobs and the lists.
        out: the prepared folder; UserError: it was made from other files, none of which were left out.
        skip_bad: omit jobs that fail.
        in_place: the folder holds other files too; else it is made aside, and then takes its place.
    """
    made_from = _source_fingerprint(plan)
    facts = kept_json(out / STAMP)
    if _is_done(plan, out, facts, made_from, skip_bad):
        print(f"{out}: is complete already; nothing to do")
    else:
        if facts and facts.get("made_from") != made_from and not facts.get("left_out"):
            fix = f"name another --out, or remove {out / STAMP} to make it anew"
            raise UserError(f"{out}: was made from other files, or by an earlier version; {fix}")
        if plan.check is not None and not callable(plan.jobs):
            plan.check(plan.jobs)
        for part in {*plan.parts, *plan.published, *facts.get("sizes", {})}:  # lists of masks that are made anew
            (out / plan.lists / f"{part}.txt").unlink(missing_ok=True)
        with nullcontext(out) if in_place else made_aside(out, STAMP) as folder:
            facts = run_jobs(plan, folder, skip_bad).facts
            write_atomically(folder / STAMP, json.dumps({"made_from": made_from, **facts}, indent=2) + "\n")
        print(f"{out}: ready")
    _print_report(plan, facts)


def _source_fingerprint(plan: Plan) -> str:
    """Return the fingerprint of the files that a data set is made from, and of what its jobs say."""
    jobs = [] if callable(plan.jobs) else plan.jobs
    files = [*plan.sources]
    for job in jobs:
        files += [path for path in (job.photo, job.source) if isinstance(path, Path)]
    words = (f"{job.photo} {job.name} {job.class_id} {job.parts}" for job in jobs)
    states = (f"{path.name} {[*state_of(path)]}" for path in files if path.exists())
    return fingerprint(states, RULES, *words)


def _is_done(plan: Plan, out: Path, facts: dict[str, Any], made_from: str, skip_bad: bool) -> bool:
    """Return whether an earlier call made all that this call would make; ``facts`` are those of its stamp."""
    if facts.get("made_from") != made_from:
        return False
    if facts["left_out"] and not skip_bad:
        return False
    return all(_is_complete(plan, out, part, digest) for part, digest in facts["digests"].items())


def _is_complete(plan: Plan, out: Path, part: str, digest: str) -> bool:
    """Return whether a list is as it was written, and the files of each of its lines exist."""
    path = out / plan.lists / f"{part}.txt"
    content = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(content).hexdigest() != digest:
        return False
    names = (name for line in content.decode().splitlines() for name in plan.outputs(line))
    return all((out / name).exists() for name in names)


def _print_report(plan: Plan, facts: dict[str, Any]) -> None:
    """Print the sizes of the lists and the counts of classes beside the published ones, notes and remarks."""
    sizes = facts["sizes"]
    counts = facts["counts"]
    skipped = facts["left_out"]
    for part, size in sizes.items():
        print(f"  {compare_count(part, size, plan.published.get(part))}; list {facts['digests'][part][:12]}")
    for name, expected in plan.published.items():
        if name not in sizes:
            print(f"  {compare_count(name, counts.get(name, 0), expected)}")
    for note in plan.notes:
        print(f"  {note}")
    for remark in (EMPTY, RESIZED):
        if remark in counts:
            print(f"  {counts[remark]} {remark}")
    if skipped:
        print(f"  {skipped} left out; without --skip-bad they are tried again")


class Made(NamedTuple):
    """The result of a job: the lines of its masks, and a remark to be counted."""

    lines: list[str]
    remark: str = ""
    covered: tuple[int, ...] = ()  # as ``Piece`` has them


class Outcome(NamedTuple):
    """The made files: facts for stamp and report."""

    facts: dict[str, Any]
    covered: Counter[int]  # by class id, the objects that others cover wholly


def run_jobs(plan: Plan, out: Path, skip_bad: bool) -> Outcome:
    """Run the jobs and write the lists; return what was made.

    Args:
        plan: the jobs and the lists.
        out: the prepared folder.
        skip_bad: omit jobs that fail.

    Raises:
        UserError: a job fails and ``skip_bad`` is False, or a list is empty; no list is written then.
    """
    jobs = plan.jobs() if callable(plan.jobs) else plan.jobs
    made = _make_all(jobs, plan, out, skip_bad)
    lists = _collect_lines(made, plan.parts)
    for part, lines in lists.items():
        if not lines:
            raise UserError(f"{out}: none of the {len(jobs)} photos belongs to the list '{part}'; check the download")
    facts = {
        "sizes": {part: len(lines) for part, lines in lists.items()},
        "digests": {part: write_list(out / plan.lists / f"{part}.txt", lines) for part, lines in lists.items()},
        "counts": _class_counts(made, plan.classes) + Counter(result.remark for _, result in made if result.remark),
        "left_out": len(jobs) - len(made),
    }
    return Outcome(facts, Counter(class_id for _, result in made for class_id in result.covered))


def _make_all(jobs: Sequence[MaskJob], plan: Plan, out: Path, skip_bad: bool) -> list[tuple[MaskJob, Made]]:
    """Run the jobs in parallel; return those that did not fail with what they made."""
    shared_plan = replace(plan, jobs=(), sources=(), check=None)  # what other processes get with each job
    run_job = partial(attempt, partial(_make, plan=shared_plan, out=out))
    made = []
    errors = []
    for job, result in zip(jobs, parallel_map(run_job, jobs, "photos and masks"), strict=True):
        if isinstance(result, UserError):
            errors.append(result)
        else:
            made.append((job, result))
    _refuse_or_report(errors, skip_bad)
    return made


def _refuse_or_report(errors: list[UserError], skip_bad: bool) -> None:
    """Print the first errors of jobs; raise the first one unless bad files are skipped."""
    if not errors:
        return
    if not skip_bad:
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
            lists.setdefault(part, []).extend(result.lines)
    return lists


def write_list(path: Path, lines: Sequence[str]) -> str:
    """Write a list of images and return its digest."""
    text = "".join(f"{line}\n" for line in lines)
    write_atomically(path, text)
    return hashlib.sha256(text.encode()).hexdigest()


def _class_counts(made: list[tuple[MaskJob, Made]], classes: Sequence[str]) -> Counter[str]:
    """Return the number of masks of each class, where masks are of one class, and of ``classes``."""
    counts = Counter[str]()
    for _, result in made:
        for line in result.lines:
            words = line.split()
            if classes and len(words) > 1:
                counts[classes[int(words[1]) - 1]] += 1
    counts["classes"] = len(counts)
    return counts


def _make(job: MaskJob, plan: Plan, out: Path) -> Made:
    """Write the masks and the photos of a job."""
    made = _write_pieces(job, plan, out)
    if not job.class_id:
        return made
    if not made.lines:
        return made._replace(remark=EMPTY)
    mask, _ = plan.outputs(job.line)
    return made._replace(remark=RESIZED) if _was_resized(out / mask, job) else made


def _write_pieces(job: MaskJob, plan: Plan, out: Path) -> Made:
    """Read and write the masks and the photos of a job."""
    image = read_image(job.photo)
    converted = None if is_read(check_photo, job.photo) else image
    lines = []
    covered: list[int] = []
    written = set[Path]()
    for piece in plan.read(job, image):
        photo = converted if piece.photo is None else piece.photo
        lines.append(_write(piece._replace(photo=photo), job, plan, out, written))
        covered += piece.covered
    return Made(lines, covered=tuple(covered))


def _was_resized(mask: Path, job: MaskJob) -> bool:
    """Return whether the file that a mask is made from has neither the size of the photo's file nor the mask's."""
    if not isinstance(job.source, Path):
        return False
    source_size, photo_size, mask_size = (header_of(path)[0] for path in (job.source, job.photo, mask))
    return source_size not in (photo_size, mask_size)


def _write(piece: Piece, job: MaskJob, plan: Plan, out: Path, written: set[Path]) -> str:
    """Write a mask and its photo, or link them; return the line. ``written``: the photos that the job has written."""
    target, photo = (out / name for name in plan.outputs(piece.line))
    if piece.photo is None:
        link(job.photo, photo)
    elif photo not in written:  # masks of several classes may share a photo
        written.add(photo)
        pixels = cv2.cvtColor(piece.photo, cv2.COLOR_RGB2BGR)
        is_part = is_read(check_photo, job.photo)
        _, encoded = cv2.imencode(photo.suffix if is_part else ".png", pixels)
        write_atomically(photo, encoded.tobytes())
    if isinstance(piece.mask, np.ndarray):
        states_upright = piece.photo is None and header_of(job.photo)[1] != UPRIGHT
        write_mask(target, piece.mask, stated=states_upright)
    elif target.resolve() != piece.mask.resolve():
        target.unlink(missing_ok=True)  # from an earlier preparation
        link(piece.mask, target)
    return piece.line


def begin_own_configs() -> None:
    """Let the working folder have a folder of all configs: links to those of the project, in real folders.

    A clone has it already; where the project is an installed package, a data set of one's own begins it.
    """
    project = config_folder()
    if project != OWN:
        for path in files_below(project):
            link(path, OWN / path.relative_to(project))
