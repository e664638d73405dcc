"""The making of a data set as its plan says: jobs in parallel, lists, a stamp, and counts beside the published ones."""

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from datasets.recipes.recipe import MaskJob, Piece, Plan, Recipe, compare_count
from util.config.folder import OWN, config_folder
from util.files import DIGEST_BYTES, files_below, fingerprint, kept_json, state_of, write_atomically
from util.files.errors import UserError
from util.files.images import UPRIGHT, header_of, read_image
from util.files.made import link, refuse_other_files
from util.files.mask_images import write_mask
from util.files.parallel import attempt, parallel_map

STAMP = "prepared.json"  # in a prepared folder: fingerprint of its sources, and facts about it
MADE_FROM = "made_from.txt"  # that fingerprint from the first job on, then a line for each job that is done
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
        make(plan, options.out, options.skip_bad)
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
        refuse_other_files(options.out, MADE_FROM)


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


def make(plan: Plan, out: Path, skip_bad: bool) -> None:
    """Run every job that is not done, write lists and stamp, and print the counts; errors as ``run_jobs``."""
    made_from = _source_fingerprint(plan)
    facts = kept_json(out / STAMP)
    if _is_done(plan, out, facts, made_from, skip_bad):
        print(f"{out}: is complete already; nothing to do")
    else:
        if plan.check is not None and not callable(plan.jobs):
            plan.check(plan.jobs)
        journal = Journal(out / MADE_FROM, made_from)
        if journal.is_new:
            for part in {*plan.parts, *plan.published, *facts.get("sizes", {})}:  # lists made from other sources
                (out / plan.lists / f"{part}.txt").unlink(missing_ok=True)
            journal.begin()
        facts = run_jobs(plan, out, skip_bad, journal).facts
        write_atomically(out / STAMP, json.dumps({"made_from": made_from, **facts}, indent=2) + "\n")
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


class Journal:
    """The jobs that are done from the same sources, a line each, in a file that names the sources first."""

    def __init__(self, file: Path, made_from: str):
        self.file = file
        self.made_from = made_from
        text = file.read_text(encoding="utf-8", errors="surrogateescape") if file.exists() else ""
        sources, *lines = text.split("\n")
        self.is_new = sources != made_from
        self.done = set[str]() if self.is_new else {*lines[:-1]}  # a kill may cut the last one

    def begin(self) -> None:
        """Begin the file anew."""
        write_atomically(self.file, f"{self.made_from}\n")

    def add(self, key: str) -> None:
        """Note that a job is done."""
        if key not in self.done:
            self.done.add(key)
            with self.file.open("a", encoding="utf-8", errors="surrogateescape") as out:
                out.write(f"{key}\n")


def _key_of(job: MaskJob) -> str:
    """Return what a journal calls a job."""
    return f"{job.name} {job.class_id} {job.photo_name}"


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
    """The result of a job: the lines of its masks, a remark to be counted, and the digest of its photo's pixels."""

    lines: list[str]
    remark: str = ""
    photo_digest: bytes = b""
    covered: tuple[int, ...] = ()  # as ``Piece`` has them


class Outcome(NamedTuple):
    """The made files: facts for stamp and report, by line the digest of a photo's pixels where they are compared."""

    facts: dict[str, Any]
    photo_digests: dict[str, bytes]
    covered: Counter[int]  # by class id, the objects that others cover wholly


def run_jobs(plan: Plan, out: Path, skip_bad: bool, journal: Journal | None = None) -> Outcome:
    """Run the jobs and write the lists; return what was made.

    Args:
        plan: the jobs and the lists.
        out: the prepared folder.
        skip_bad: omit jobs that fail.
        journal: of the jobs that are done, which gets those that are done now; None: none is.

    Raises:
        UserError: a job fails and ``skip_bad`` is False, or a list is empty; no list is written then.
    """
    jobs = plan.jobs() if callable(plan.jobs) else plan.jobs
    made = _make_all(jobs, plan, out, skip_bad, journal)
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
    return Outcome(facts, *_photos_and_covered(made))


def _make_all(
    jobs: Sequence[MaskJob], plan: Plan, out: Path, skip_bad: bool, journal: Journal | None
) -> list[tuple[MaskJob, Made]]:
    """Run the jobs in parallel; return those that did not fail with what they made."""
    shared_plan = replace(plan, jobs=(), sources=(), check=None)  # what other processes get with each job
    run_job = partial(attempt, partial(_make, plan=shared_plan, out=out))
    done = set[str]() if journal is None else {*journal.done}
    marked = [(job, _key_of(job) in done) for job in jobs]
    made = []
    errors = []
    for job, result in zip(jobs, parallel_map(run_job, marked, "photos and masks"), strict=True):
        if isinstance(result, UserError):
            errors.append(result)
            continue
        made.append((job, result))
        if journal is not None:
            journal.add(_key_of(job))
    _refuse_or_report(errors, skip_bad)
    return made


def _photos_and_covered(made: list[tuple[MaskJob, Made]]) -> tuple[dict[str, bytes], Counter[int]]:
    """Return the digests of photos by line, and the numbers of covered objects by class id."""
    photo_digests: dict[str, bytes] = {}
    covered = Counter[int]()
    for _, result in made:
        photo_digests |= dict.fromkeys(result.lines, result.photo_digest)
        covered.update(result.covered)
    return photo_digests, covered


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


def _make(marked: tuple[MaskJob, bool], plan: Plan, out: Path) -> Made:
    """Write the masks and the photos of a job unless they are there, and were done from the same sources."""
    job, is_done = marked
    outputs = [out / name for name in plan.outputs(job.line)] if job.name else []
    if outputs and is_done and all(path.exists() for path in outputs):
        made = Made([job.line])
    else:
        made = _write_pieces(job, plan, out)
    if not job.class_id:
        return made
    if not made.lines:
        return made._replace(remark=EMPTY)
    return made._replace(remark=RESIZED) if _was_resized(outputs[0], job) else made


def _write_pieces(job: MaskJob, plan: Plan, out: Path) -> Made:
    """Read and write the masks and the photos of a job."""
    image = read_image(job.photo)
    photo_digest = pixel_digest(image) if plan.compares_photos else b""
    lines = []
    covered: list[int] = []
    written = set[Path]()
    for piece in plan.read(job, image):
        lines.append(_write(piece, job, plan, out, written))
        covered += piece.covered
    return Made(lines, photo_digest=photo_digest, covered=tuple(covered))


def pixel_digest(pixels: np.ndarray) -> bytes:
    """Return a digest of the shape and the values of an array of uint8, however its file stores them."""
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=DIGEST_BYTES)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


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
        _, encoded = cv2.imencode(photo.suffix, pixels)
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
