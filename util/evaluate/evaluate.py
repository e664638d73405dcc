"""The test command: any protocols and numbers of shots of one model in one run, each with a result of its own."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from model.registry import described
from util.config.compose import files_of
from util.config.place import DISCARDED
from util.config.read import to_dict
from util.config.settings import Config
from util.data.draws import PFENET
from util.evaluate.done import facts_today, reason_to_test, shared_code
from util.evaluate.result import manifest_of, result_of
from util.evaluate.schema import MANIFEST, RESULT, Result, read_result
from util.evaluate.scoring import Scoring, scorings_of
from util.evaluate.store import TrialStore
from util.evaluate.titles import score_line
from util.files.errors import check_known, log
from util.files.parallel import KEEP_ALL, set_allocator
from util.loop.device import describe, episodes_at_once
from util.loop.mask_metrics import check_metrics
from util.loop.processes import ProcessGroup, join
from util.loop.score import score
from util.run.alike import check_alike
from util.run.data import trials
from util.run.folder import RunFolder
from util.weights.checkpoint import Checkpoint
from util.weights.origin import Origin


def evaluate(
    config: Config,
    protocols: Sequence[str] = (),
    shots: Sequence[int] = (),
    manifest: Path | None = None,
    *,
    stored: Checkpoint | None = None,
    keep: bool = False,
) -> dict[Path, Result]:
    """Score the model over the episodes and seeds of each protocol; write and return the results, by their files.

    Args:
        protocols: names of entries; none means ``test.protocol``.
        shots: numbers of supports; none means ``data.shot``.
        manifest: a file of episodes to replay.
        stored: the checkpoint, where it was read already.
        keep: do not score what is done (``reason_to_test``).

    UserError: a protocol or a metric is unknown, before a device is asked for; others as ``scorings_of``.
    """
    shared_code()  # before minutes pass, in which files may be edited
    check_metrics(config.test.metrics, config.source)
    for name in protocols:
        check_known(name, config.protocols, f"protocol '{name}' is unknown")
    with join(config.run.device, "test.batch, data.size or data.workers", config.run.deterministic) as world:
        check_alike(world, config, options={"--protocol": protocols, "--shot": shots, "--overwrite": not keep})
        scorings = scorings_of(config, world, protocols, shots, manifest, stored=stored)
        check_alike(world, config, lambda: [Origin.today(facts_today(scoring)) for scoring in scorings])
        results = world.from_main(partial(_done, scorings)) if keep else {}
        scorings = [scoring for scoring in scorings if scoring.folder / RESULT not in results]
        folders = {scoring: RunFolder(scoring.folder, world.is_main) for scoring in scorings}
        if scorings:
            _announce(scorings, world)
        if world.device.type == "cpu":
            set_allocator(KEEP_ALL)
        store = TrialStore(config.test.store_gib)
        for scoring, folder in folders.items():
            _run(scoring, world, store)
            results[folder.path / RESULT] = _finish(scoring, folder, world)
    return results


def _done(scorings: list[Scoring]) -> dict[Path, Result]:
    """Return the results of the tests that are done, by their files, and say of each test why it is kept, or is not."""
    results = dict[Path, Result]()
    for scoring in scorings:
        path = scoring.folder / RESULT
        reason = reason_to_test(scoring)
        if not reason:
            results[path] = read_result(path)
            print(f"kept: {path}: {score_line(results[path])}; --overwrite scores it again", flush=True)
        elif path.exists():
            print(f"scored again: {path}: {reason}", flush=True)
    return results


def _announce(scorings: list[Scoring], world: ProcessGroup) -> None:
    """Log config, method, what is scored (weights, protocol, list, episodes, seeds), notes of weights, the device."""
    config = scorings[0].config
    log.info("config: %s", files_of(config.source))
    log.info("%s", described(config.model))
    for test in scorings:
        sizes = ", ".join(f"{n} episodes" for n in sorted(set(test.episodes.values())))
        log.info(
            "test %s by %s: %d images, %s, seeds %s",
            test.loaded.source,
            test.name,
            len(test.images.queries),
            sizes,
            list(test.samplers),
        )
        if seen := test.classes_trained_on:
            log.warning("of the tested classes the weights were trained on %s: these are not novel", ", ".join(seen))
    for note in filter(None, dict.fromkeys(scoring.loaded.note for scoring in scorings)):
        log.info("%s", note)
    log.info("on %s in %s, processes: %d", describe(world.device), scorings[0].prepared.precision, world.size)


def _run(test: Scoring, world: ProcessGroup, store: TrialStore) -> None:
    """Run the network over the episodes of a test, seed by seed, and count them."""
    started = time.monotonic()
    backwards = test.protocol.draw == PFENET
    store.use_for(test.prepared.network, test.view, test.images.index.fingerprint, test.prepared.precision)
    side = test.view.side or test.config.data.size
    images = test.shot * test.protocol.ways + 1  # of an episode
    test.batch = episodes_at_once(test.config.test.batch, world.device, images, side)
    for seed, episodes in test.episodes.items():
        score(
            test.prepared,
            trials(test.run, test.samplers[seed], test.view, test.scored_on, last_support_first=backwards),
            episodes,
            [test.boards[seed]],
            world,
            title=f"{test.name} {test.shot}-shot seed {seed}",
            batch=test.batch,
            workers=test.config.data.workers,
            store=store,
        )
    test.seconds = time.monotonic() - started


def _finish(scoring: Scoring, folder: RunFolder, world: ProcessGroup) -> Result:
    """Sum a test over processes; write its result and its episodes."""
    gathered = [scoring.boards[seed].gather(world) for seed in scoring.samplers]
    result = result_of(scoring, [scores for scores, _ in gathered], world)
    if world.is_main:
        for name in (RESULT, DISCARDED):  # of an earlier test
            (folder.path / name).unlink(missing_ok=True)
        folder.write_text(MANIFEST, manifest_of(scoring, [records for _, records in gathered], result).text())
        folder.describe(to_dict(scoring.config))
        log.info("%s", score_line(result))
        folder.write_json(RESULT, result)  # last: it never stands beside another test's files
        log.info("result: %s", folder.path / RESULT)
    folder.close()
    return result
