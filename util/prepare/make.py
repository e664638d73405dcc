"""The making of a data set as its plan says: jobs in parallel, lists, a stamp, and counts beside the published ones."""

import argparse
import hashlib
import importlib
import json
import pkgutil
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from util.data.images.read import UPRIGHT, header_of, read_image, write_mask
from util.errors import UserError
from util.files import fingerprint, kept_json, link, refuse_other_files, write_atomically
from util.parallel import attempt, parallel_map
from util.prepare import datasets
from util.prepare.datasets.recipe import MaskJob, Piece, Plan, compare_count

STAMP = "prepared.json"  # in a prepared folder: fingerprint of its sources, and facts about it
MADE_FROM = "made_from.txt"  # that fingerprint from the first job on; outputs that are older are outdated
RULES = 3  # raise when the same sources give other files
EMPTY = "masks show no pixel of their class and are left out"
RESIZED = "masks had another size than their photo and were resized to it"


class Recipe:
    """The sub-command of ``prepare.py`` that makes a data set as a module of ``datasets`` says."""

    def __init__(self, module: ModuleType):
        self.module, self.name = module, module.__name__.rpartition(".")[2]
        self.__doc__ = module.__doc__ or f"Prepare {self.name}."

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add this command's options."""
        if hasattr(self.module, "add_options"):
            self.module.add_options(parser)
        else:
            parser.add_argument("--root", type=Path, required=True, help=self.module.ROOT)
            add_out(parser, f"data/{self.name}")

    def run(self, options: argparse.Namespace) -> int:
        """Prepare the data set and print its counts; UserError: a file is bad, and no list is written then."""
        if not hasattr(self.module, "add_options"):
            root, out = options.root.resolve(), options.out.resolve()
            if root in (out, *out.parents):
                raise UserError(f"--out {options.out}: lies in --root {options.root}; name another --out")
            refuse_other_files(options.out, MADE_FROM)
        plan = self.module.find(options)
        if not (callable(plan.jobs) or any(job.photo.exists() for job in plan.jobs)):
            raise UserError(f"--root {options.root}: holds no photo of {self.name}; name the {self.module.ROOT}")
        configs = {Path(f"config/{self.name}/{name}"): text for name, text in plan.configs.items()}
        for path, text in configs.items():
            refuse_other(path, text)
        make(plan, options.out, options.skip_bad)
        for path, text in configs.items():
            write_atomically(path, text)
        if configs:
            now = f"MODEL=multiprototype sh test.sh split0 {self.name} 1   (0 in place of 1: CPU)"
            print(f"config: config/{self.name}/{self.name}.yaml; now: {now}")
        return 0


def recipes() -> list[Recipe]:
    """Return the recipes of all modules of ``datasets`` that have a function ``find``."""
    names = (found.name for found in pkgutil.iter_modules(datasets.__path__, f"{datasets.__name__}."))
    return [Recipe(module) for module in map(importlib.import_module, names) if hasattr(module, "find")]


def add_out(parser: argparse.ArgumentParser, out: str) -> None:
    """Add ``--out`` and ``--skip-bad``."""
    parser.add_argument("--out", type=Path, default=Path(out), help=f"folder to create (default {out})")
    parser.add_argument("--skip-bad", action="store_true", help="omit missing or damaged files instead of stopping")


def refuse_other(path: Path, text: str) -> None:
    """Refuse (UserError) to write a config over one with other content."""
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UserError(f"{path}: exists with other content (another --out, or other classes); remove it and repeat")


def make(plan: Plan, out: Path, skip_bad: bool) -> None:
    """Run every job that is not done, write lists and stamp, and print the counts; errors as ``run_jobs``."""
    jobs = [] if callable(plan.jobs) else plan.jobs
    files = [path for job in jobs for path in (job.photo, job.source) if isinstance(path, Path)]
    words = (f"{job.photo} {job.name} {job.class_id} {job.parts}" for job in jobs)
    made_from = fingerprint((path for path in (*plan.sources, *files) if path.exists()), RULES, *words)
    facts, marker = kept_json(out / STAMP), out / MADE_FROM
    is_new = facts.get("made_from") == made_from and (skip_bad or not facts["left_out"])
    if is_new and all(_is_complete(plan, out, part, digest) for part, digest in facts["digests"].items()):
        print(f"{out}: is complete already; nothing to do")
    else:
        if not marker.exists() or marker.read_text() != made_from:
            for part in {*plan.parts, *plan.published, *facts.get("sizes", {})}:
                (out / plan.lists / f"{part}.txt").unlink(missing_ok=True)
            write_atomically(marker, made_from)
        facts = run_jobs(plan, out, skip_bad, marker.stat().st_mtime_ns)
        write_atomically(out / STAMP, json.dumps({"made_from": made_from, **facts}, indent=2) + "\n")
        print(f"{out}: ready")
    sizes, counts = facts["sizes"], facts["counts"]
    for part, size in sizes.items():
        print(f"  {compare_count(part, size, plan.published.get(part))}; list {facts['digests'][part][:12]}")
    for name, count in plan.published.items():
        if name not in sizes:
            print(f"  {compare_count(name, counts.get(name, 0), count)}")
    remarks = [f"{counts[what]} {what}" for what in (EMPTY, RESIZED) if what in counts]
    lost = facts["left_out"]
    for line in (*plan.notes, *remarks, *[f"{lost} omitted; without --skip-bad they are tried again"] * (lost > 0)):
        print(f"  {line}")


def _is_complete(plan: Plan, out: Path, part: str, digest: str) -> bool:
    """Return whether a list is as it was written, and the files of each of its lines exist."""
    path = out / plan.lists / f"{part}.txt"
    content = path.read_bytes() if path.exists() else b""
    same = hashlib.sha256(content).hexdigest() == digest
    return same and all((out / name).exists() for line in content.decode().splitlines() for name in plan.outputs(line))


def run_jobs(plan: Plan, out: Path, skip_bad: bool, since: int = 0) -> dict[str, Any]:
    """Run the jobs and write the lists; return the facts for stamp and report.

    Outputs are up to date from the time ``since`` (ns) on. UserError: a job fails and ``skip_bad`` is False, or a list
    is empty; no list is written then.
    """
    jobs = plan.jobs() if callable(plan.jobs) else plan.jobs
    alone = replace(plan, jobs=(), sources=())  # what other processes get with each job
    one = partial(attempt, partial(_make, plan=alone, out=out, since=since))
    results = list(parallel_map(one, jobs, "photos and masks"))
    bad = [result for result in results if isinstance(result, UserError)]
    if bad and not skip_bad:
        others = f" (and {len(bad) - 1} more bad files)" if len(bad) > 1 else ""
        raise UserError(f"{bad[0]}{others}; --skip-bad omits them")
    for line in [*bad[:5], *[f"{len(bad) - 5} more"] * (len(bad) > 5)]:
        print(f"omitted: {line}")
    made = [(job, result) for job, result in zip(jobs, results, strict=True) if not isinstance(result, UserError)]
    parts = dict.fromkeys([*plan.parts, *(part for job, _ in made for part in job.parts)])
    lists = {part: [line for job, (lines, _) in made if part in job.parts for line in lines] for part in parts}
    if empty := [part for part, lines in lists.items() if not lines]:
        raise UserError(f"{out}: none of the {len(jobs)} photos gives a line of {empty[0]}; check the download")
    texts = {part: "".join(f"{line}\n" for line in lines) for part, lines in lists.items()}
    for part, text in texts.items():
        write_atomically(out / plan.lists / f"{part}.txt", text)
    words = (line.split() for _, (lines, _) in made for line in lines)
    counts = Counter(plan.classes[int(others[0]) - 1] for _, *others in words if others and plan.classes)
    counts["classes"] = len(counts)
    return {
        "sizes": {part: len(lines) for part, lines in lists.items()},
        "digests": {part: hashlib.sha256(text.encode()).hexdigest() for part, text in texts.items()},
        "counts": counts + Counter(remark for _, (_, remarks) in made for remark in remarks),
        "left_out": len(jobs) - len(made),
    }


def _make(job: MaskJob, plan: Plan, out: Path, since: int) -> tuple[list[str], list[str]]:
    """Write the masks and the photos of a job unless they are up to date; return their lines, and remarks."""
    outputs = [out / name for name in plan.outputs(job.line)] if job.name else []
    if outputs and all(path.exists() for path in outputs) and outputs[0].lstat().st_mtime_ns >= since:
        lines = [job.line]
    else:
        lines = [_write(piece, job, plan, out, since) for piece in plan.read(job, read_image(job.photo))]
    if not lines:
        return [], [EMPTY] * (job.class_id > 0)
    if not job.class_id or not isinstance(job.source, Path):
        return lines, []
    given, stored, now = (header_of(path)[0] for path in (job.source, job.photo, outputs[0]))
    return lines, [RESIZED] * (given not in (stored, now))


def _write(piece: Piece, job: MaskJob, plan: Plan, out: Path, since: int) -> str:
    """Write a mask and its photo, or link them; return the line."""
    target, photo = (out / name for name in plan.outputs(piece.line))
    if piece.photo is None:
        link(job.photo, photo)
    elif not photo.exists() or photo.stat().st_mtime_ns < since:  # masks of several classes may share a photo
        pixels = cv2.cvtColor(piece.photo, cv2.COLOR_RGB2BGR)
        write_atomically(photo, cv2.imencode(photo.suffix, pixels)[1].tobytes())
    if isinstance(piece.mask, np.ndarray):
        write_mask(target, piece.mask, stated=piece.photo is None and header_of(job.photo)[1] != UPRIGHT)
    elif target.resolve() != piece.mask.resolve():
        target.unlink(missing_ok=True)  # from an earlier preparation
        link(piece.mask, target)
    return piece.line
