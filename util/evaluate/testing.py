"""The test command: any protocols and numbers of shots of one model in one run, each with a result of its own."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from model.registry import described
from util.config.compose import files_of
from util.config.place import DISCARDED
from util.config.read import to_dict
from util.config.settings import Config
from util.data.draws import PFENET
from util.evaluate.evaluate import run_pass
from util.evaluate.jobs import TestJob, build_test_jobs, passes
from util.evaluate.kept import FIRST, FIRST_EPISODES, KeptPredictions
from util.evaluate.result import manifest_of, result_of
from util.evaluate.schema import DRAWN, MANIFEST, PICTURES, PREDICTIONS, RESULT, check_result
from util.evaluate.store import ShotStore, shot_store
from util.evaluate.titles import score_line
from util.files.launcher import place_of_process
from util.run.checkpoint import Checkpoint
from util.run.data import trials
from util.run.device import compute_in_fixed_order, describe, episodes_at_once
from util.run.folder import RunFolder
from util.run.processes import ProcessGroup, join

log = logging.getLogger("symnet")


def test(
    config: Config,
    protocols: Sequence[str] = (),
    shots: Sequence[int] = (),
    manifest: Path | None = None,
    *,
    save_images: dict[str, int] | None = None,
    stored: Checkpoint | None = None,
) -> dict[Path, dict[str, Any]]:
    """Score the model over the episodes and seeds of each protocol; write and return the results, by their files.

    Args:
        protocols: names of entries, or ``all``, those of one class per episode that fit; none means ``test.protocol``.
        shots: numbers of supports; none means ``data.shot``.
        manifest: a file of episodes to replay.
        save_images: kind (worst, best, random) -> number of episodes whose predictions are kept for pictures.
        stored: the checkpoint, where it was read already.
    """
    with join(config.run.device, "test.batch, data.size or data.workers") as world:
        if config.run.deterministic:
            compute_in_fixed_order()
        jobs = build_test_jobs(config, world, protocols, shots, manifest, stored=stored)
        folders = {job: RunFolder(job.test.folder, world.is_main) for job in jobs}
        wanted = {**(save_images or {}), FIRST: FIRST_EPISODES}
        for job in jobs:
            job.kept = KeptPredictions(wanted, job.test.episodes)
        _announce(jobs, world)
        store = shot_store(world.device, place_of_process().local_size)
        results = dict[TestJob, dict[str, Any]]()
        for counted in _count(jobs, world, store):
            for job in counted:  # at once: a test that is killed later keeps this result
                results[job] = _finish(job, folders[job], world)
    return {folders[job].path / RESULT: results[job] for job in jobs}


def _announce(jobs: list[TestJob], world: ProcessGroup) -> None:
    """Log config, method, what is scored (weights, protocol, list, episodes, seeds), notes of weights, the device."""
    config = jobs[0].test.config
    log.info("config: %s", files_of(config.source))
    log.info("%s", described(config.model))
    for test in (job.test for job in jobs):
        sizes = ", ".join(f"{n} episodes" for n in sorted(set(test.episodes.values())))
        images = len(test.images.queries)
        seeds = list(test.samplers)
        log.info("test %s by %s: %d images, %s, seeds %s", test.loaded.weights.source, test.name, images, sizes, seeds)
    for note in dict.fromkeys(job.test.loaded.weights.note for job in jobs):
        if note:
            log.info("%s", note)
    place = f"{describe(world.device)} in {jobs[0].prepared.precision}"  # one for all jobs
    log.info("on %s, processes: %d", place, world.size)


def _count(jobs: list[TestJob], world: ProcessGroup, store: ShotStore | None) -> Iterator[list[TestJob]]:
    """Run the network over all episodes; yield, after each pass, the jobs whose episodes are all counted by then."""
    for seed, members in passes(jobs):
        _run_shared_pass(members, seed, world, store)
        yield [job for job in members if job.boards.keys() == job.test.samplers.keys()]


def _run_shared_pass(jobs: list[TestJob], seed: int, world: ProcessGroup, store: ShotStore | None) -> None:
    """Run the network once over the episodes of a seed and count them for each of the jobs."""
    started = time.monotonic()
    first = jobs[0].test
    prepared = jobs[0].prepared
    scored_on = tuple(dict.fromkeys(job.test.scored_on for job in jobs))
    longest = max(job.test.episodes[seed] for job in jobs)
    first.samplers[seed](longest - 1)  # a published sequence is drawn here, once for all workers
    backwards = first.protocol.draw == PFENET
    data = trials(first.run.context, first.samplers[seed], first.view, scored_on, last_support_first=backwards)
    names = [job.test.name for job in jobs]
    for job in jobs:
        job.boards[seed] = job.scoreboard(seed)
        job.shared_with = sorted({*job.shared_with, *names} - {job.test.name})
    if store is not None:
        store.use_for(prepared.network, first.view, first.images.index.fingerprint, prepared.precision)
    title_of_bar = f"{'+'.join(names)} {first.shot}-shot seed {seed}"
    side = first.view.side or first.config.data.size
    images_per_episode = first.shot * first.protocol.ways + 1
    batch = episodes_at_once(first.config.test.batch, world.device, images_per_episode, side)
    run_pass(
        prepared,
        data,
        longest,
        [job.boards[seed] for job in jobs],
        world,
        title=title_of_bar,
        batch=batch,
        workers=first.config.data.workers,
        store=store,
    )
    if store is not None:
        log.info("%s: %s", title_of_bar, store)
    for job in jobs:
        job.batch = batch
        job.seconds += time.monotonic() - started


def _finish(job: TestJob, folder: RunFolder, world: ProcessGroup) -> dict[str, Any]:
    """Sum a job over processes; write its result, its episodes and the predictions that were kept."""
    per_seed = list[dict[str, Any]]()
    records = list[dict[str, np.ndarray]]()
    for seed in job.test.samplers:
        scores_of_seed, records_of_seed = job.boards[seed].gather(world)
        per_seed.append(scores_of_seed)
        records.append(records_of_seed)
    if job.kept is not None:
        job.kept.gather(world)
    result = check_result(result_of(job, per_seed, world), folder.path / RESULT)
    if world.is_main:
        _remove_earlier(folder.path)
        folder.write_text(MANIFEST, manifest_of(job, records, result).text())
        folder.describe(to_dict(job.test.config))
        if job.kept is not None:
            job.kept.write(folder.path / PREDICTIONS)
        log.info("%s", score_line(result))
        folder.write_json(RESULT, result)  # last: it never stands beside another test's files
        log.info("result: %s", folder.path / RESULT)
    folder.close()
    return result


def _remove_earlier(folder: Path) -> None:
    """Remove the result of an earlier test, its predictions, and what was drawn of them."""
    for pattern in (RESULT, DISCARDED, PREDICTIONS, *DRAWN):
        for path in folder.glob(pattern):
            path.unlink()
    with suppress(OSError):  # it is not there, or holds other files
        (folder / PICTURES).rmdir()
