"""The test command: any protocols and numbers of shots of one model in one run, each with a result of its own."""

from __future__ import annotations

import logging
import os
import time
from functools import partial
from typing import Any, cast

import numpy as np

from util.config.read import to_dict
from util.config.settings import Config
from util.data.lists.manifest import WITH_REPLACEMENT, Manifest, described
from util.evaluate.cache import Cacheable, FeatureCache, feature_cache
from util.evaluate.evaluate import (
    BACKGROUND_INTERSECTION,
    FOREGROUND_INTERSECTION,
    INTERSECTION,
    NUMBER,
    Observer,
    PassOptions,
    Scoreboard,
    run_pass,
)
from util.evaluate.jobs import Job, Pass, Request, build_test_jobs, passes
from util.evaluate.kept_predictions import KeptPredictions
from util.evaluate.pictures import EPISODES, remove_pictures, save_pictures
from util.evaluate.result import result_of
from util.files import write_atomically
from util.report.charts import write_charts
from util.report.figure import write_figure
from util.report.pictures import FirstEpisodes
from util.report.result_table import class_table, passes_in_words, protocol_table, score_table, title
from util.report.run_folder import RunFolder
from util.report.schema import MANIFEST, RESULT, check_result, in_words
from util.run.data import trials
from util.run.device import describe
from util.run.processes import World, join

log = logging.getLogger("symnet")
Records = dict[int, dict[str, np.ndarray]]  # seed -> output -> (episodes * N, 8) int64, columns as in evaluation.py


def test(config: Config, request: Request | None = None) -> list[dict[str, Any]]:
    """Score the model over the episodes and seeds of each requested protocol; write, print and return the results."""
    request = request or Request()
    with join(config.run.device, "test.batch, data.size or data.workers") as world:
        jobs = build_test_jobs(config, request, world)
        folders = [RunFolder(job.folder, world.is_main) for job in jobs]
        _log_jobs(jobs, folders)
        pictures = {id(job): FirstEpisodes(config.data.classes, config.test.pictures) for job in jobs}
        log.info("on %s, %d process(es)", describe(world.device), world.size)
        for job in jobs:
            job.kept = KeptPredictions(request.save_images, job.episodes) if request.save_images else None
        cache = feature_cache(config.test.cache_gib, world.device, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
        for shared in passes(jobs):
            _run(shared, world, pictures, cache)
        out = []
        for job, folder in zip(jobs, folders, strict=True):
            out.append(_finish(job, folder, world, request, pictures[id(job)]))
            folder.close()
    if len(out) > 1 and world.is_main:
        log.info("%s", protocol_table(out))
    return out


def _log_jobs(jobs: list[Job], folders: list[RunFolder]) -> None:
    """Log every job and the notes about its weights, and write its config."""
    for job, folder in zip(jobs, folders, strict=True):
        folder.describe(to_dict(job.context.config))
        sizes = ", ".join(f"{n} episodes" for n in sorted(set(job.episodes.values())))
        log.info(
            "test %s by %s: %d images, %s, seeds %s",
            *(job.weights.source, job.name, len(job.images.queries), sizes, list(job.samplers)),
        )
    for note in dict.fromkeys(job.weights.note for job in jobs if job.weights.note):
        log.info("%s", note)


def _run(shared: Pass, world: World, pictures: dict[int, FirstEpisodes], cache: FeatureCache | None) -> None:
    """Run the network over one pass and count it for each of its jobs."""
    first, seed = shared.jobs[0], shared.seed
    config = first.context.config
    scored_on = tuple(dict.fromkeys(job.scored_on for job in shared.jobs))
    data = trials(first.context, first.samplers[seed], first.view, scored_on)
    for job in shared.jobs:
        keep = None if job.kept is None else partial(job.kept.add, seed)
        job.boards[seed] = Scoreboard(
            *(len(config.data.classes), world.device, job.scored_on, job.episodes[seed], keep),
            asks_presence=job.protocol.absent > 0,
            calibration=job.calibration,
        )
        job.shared_with = sorted({*job.shared_with, *(j.name for j in shared.jobs if j is not job)})
    started = time.monotonic()
    if cache is not None:
        network = cast(Cacheable, first.prepared.network)
        cache.use_for(network, first.view, first.images.index.fingerprint, config.run.precision)

    observers: list[Observer] = [job.boards[seed] for job in shared.jobs]
    if world.is_main:
        observers += [pictures[id(job)] for job in shared.jobs]
    options = PassOptions(config.test.batch, config.data.workers, shared.title)
    run_pass(first.prepared, data, shared.episodes, observers, world, options, cache)
    if cache is not None:
        log.info("%s: %s", shared.title, cache.report())
    for job in shared.jobs:
        job.seconds += time.monotonic() - started


def _finish(job: Job, folder: RunFolder, world: World, request: Request, first: FirstEpisodes) -> dict[str, Any]:
    """Sum a job over processes; write its result, its episodes and its pictures."""
    per_seed = [job.boards[seed].scores(world) for seed in job.samplers]
    records = {seed: job.boards[seed].episode_records(world) for seed in job.samplers}
    presence = {seed: job.boards[seed].all_presence(world) for seed in job.samplers}
    kept = {} if job.kept is None else job.kept.gathered(world)
    result = check_result(result_of(job, per_seed, world), str(folder.path / RESULT))
    if not world.is_main:
        return result
    remove_pictures(folder.path)
    manifest = _manifest(job, records, presence, passes_in_words(result))
    folder.write_text(MANIFEST, manifest.text())
    if request.manifest is not None and job.replayed is None:
        write_atomically(request.manifest, manifest.text())
        log.info("episodes: %s", request.manifest)
    folder.write_json(RESULT, result)
    write_charts(folder.path, request.figures)
    if figure := first.drawn():
        write_figure(folder.path / EPISODES, figure, request.figures)
    if request.save_images:
        save_pictures(job, records, request.save_images, kept, folder.path, title(result), request.figures)
    log.info(
        "%s, list %s\n%s\n%s\n\n%s",
        title(result),
        result["list_source"] or "made from the masks",
        in_words({result["shot"]: result["track"]}),
        score_table(result),
        class_table(result),
    )
    if result["classes_without_episodes"]:
        log.info("%d classes have no episode and are in no mean", result["classes_without_episodes"])
    log.info("result: %s", folder.path / RESULT)
    return result


def _manifest(
    job: Job, records: Records, presence: dict[int, dict[int, tuple[bool, float, bool]]], averaged: str
) -> Manifest:
    """Return every episode of a job with its counts.

    Args:
        presence: seed -> number -> see ``Scoreboard.presence``; empty where it is not asked for.
        averaged: the views that predictions are averaged over, in words.
    """
    data, names = job.context.config.data, job.images.index.names
    header = {
        "dataset": data.name,
        "folds": data.folds,
        "fold_rule": data.fold_rule,
        "fold": data.fold,
        "shot": data.shot,
        "protocol": job.name,
        "scored_on": job.scored_on,
        "supports": WITH_REPLACEMENT if job.replayed else job.protocol.supports,  # a replay may hold any
        **({"ways": job.ways} if job.ways > 1 else {}),
        "list": job.images.digest,
        "weights": job.weights.digest,
        "quick_look": job.quick_look,
        "averaged": averaged,
    }
    out = Manifest(header)
    for seed, outputs in records.items():
        for place, number in enumerate(np.unique(next(iter(outputs.values()))[:, NUMBER]).tolist()):
            key = job.samplers[seed](number)
            episode = {"seed": seed, "number": number, **described(key, names)}
            if number in presence[seed]:
                episode["presence"] = presence[seed][number][1]
            rows = slice(place * job.ways, (place + 1) * job.ways)
            out.episodes.append({**episode, "outputs": {name: _counts(table[rows]) for name, table in outputs.items()}})
    return out


def _counts(records: np.ndarray) -> list[int]:
    """Return the counts of one episode as a manifest has them; see ``util/data/lists/manifest.py``."""
    of_classes = records[:, [INTERSECTION, INTERSECTION + 1]].ravel().tolist()
    sides = (FOREGROUND_INTERSECTION, BACKGROUND_INTERSECTION) if len(records) > 1 else (BACKGROUND_INTERSECTION,)
    return of_classes + [count for side in sides for count in records[0, [side, side + 1]].tolist()]
