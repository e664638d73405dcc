"""Part 7: training episodes per second of the loader over generated photos, and a training step that waits for it."""

from __future__ import annotations

from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.gpu.meter import Utilisation, measure, now
from benchmark.gpu.methods import BATCHES, busy
from benchmark.gpu.settings import Settings
from benchmark.gpu.steps import network_of, side_of, training_step
from benchmark.reporting import Table
from benchmark.ways import OURS, PLAIN, TRAINING
from util.parallel import usable_cores

if TYPE_CHECKING:
    from util.config.settings import Config

TITLE = "loader"
NEEDS = ("cv2", "yaml", "tqdm", "safetensors")
SECONDS, CONTINUES = 90, False
ONE, MANY, STEP = "one process", "processes", "training step"
WORKERS = (1, 2, 4, 8, 16)
MODEL = "symnet"
ROUNDS, QUICK_PHOTOS, QUICK_EPISODES = 3, 45, 2
BATCHES_OF_A_WORKER = 12  # measured; each has two made ahead
STEP_SECONDS = 20.0


def units(settings: Settings) -> dict[str, Any]:
    """Return the units, which share the photos."""
    return {ONE: partial(_one), MANY: partial(_many), STEP: partial(_step)}


def tables(results: dict[str, dict[str, Any]]) -> dict[str, Table]:
    """Return the rates."""
    out: dict[str, Table] = {}
    if ONE in results:
        row = results[ONE]
        ways = (OURS, "decoding", PLAIN)
        lines = [[way, f"{row[f'{way}_per_second']:.0f}"] for way in ways]
        lines += [["ours / naive", f"{row['ours_over_naive']:.2f}"]]
        out[f"one thread, crops of {row['size']} px"] = (["way", "episodes / s"], lines)
    if MANY in results:
        rates = results[MANY]["per_second"]
        out["the engine's loader, transfer included"] = (
            ["loader processes", "episodes / s"],
            [[workers, f"{rate:.0f}"] for workers, rate in rates.items()],
        )
    if STEP in results:
        row = results[STEP]
        header = ["training through the loader", "episodes / s", "without loader", "share", "GPU busy"]
        rates = [f"{row[key]:.2f}" for key in ("episodes_per_second", "alone_per_second", "share")]
        name = f"{MODEL}, bf16, batch {row['batch']}, {row['workers']} loader processes"
        out["training step"] = (header, [[name, *rates, busy(row["utilisation"])]])
    return out


def most_workers(settings: Settings) -> int:
    """Return the number of loader processes of a training."""
    return 1 if settings.quick else max(min(usable_cores() - 1, max(WORKERS)), 1)


def _config(settings: Settings) -> Config:
    """Return the config over the drawn photos, which are drawn once."""
    from benchmark import loader

    side, folder = side_of(MODEL, settings.quick), settings.work / "photos"
    drawn = folder / "drawn"
    root = str(folder) if drawn.exists() else None
    photos = QUICK_PHOTOS if settings.quick else loader.PHOTOS
    config = loader.config_of(folder, loader.CONFIG, root, side, photos)
    Path(drawn).write_text("")
    return config


def _dataset(settings: Settings) -> tuple[Config, Any]:
    """Return the config and its training episodes by number."""
    from util.engine.run_context import make_run_context
    from util.engine.run_data import images_for_training, training_episodes

    config = _config(settings)
    context = make_run_context(config)
    return config, training_episodes(context, images_for_training(context, progress=False))


def _one(settings: Settings) -> dict[str, Any]:
    """Return the rates of one thread: ours, ours from files, the plain loader."""
    from benchmark import loader

    few = settings.quick
    return loader.row_of(_config(settings), QUICK_EPISODES if few else loader.EPISODES, 1 if few else ROUNDS)


def _many(settings: Settings) -> dict[str, Any]:
    """Return the rate of the engine's loader by its number of processes."""
    from benchmark import loader

    config, dataset = _dataset(settings)
    batch = QUICK_EPISODES if settings.quick else config.meta_stage.batch
    counts = [n for n in WORKERS if n <= most_workers(settings)]
    rates = {}
    for workers in counts:
        episodes = batch * (1 if settings.quick else workers * BATCHES_OF_A_WORKER)
        rates[str(workers)] = loader.through_loader(dataset, batch, episodes, workers, settings.place)
    return {"per_second": rates, "batch": batch}


def _step(settings: Settings) -> dict[str, Any]:
    """Return the rate of training steps over the loader's batches, beside the rate over one batch again and again."""
    from util.engine.loading import batches

    device, quick = settings.place, settings.quick
    _, dataset = _dataset(settings)
    batch, workers = (QUICK_EPISODES if quick else BATCHES[TRAINING]), (0 if quick else most_workers(settings))
    network = network_of(MODEL, quick, device)
    run = training_step(network, network, settings.mixed)
    stream: Any = batches(dataset, (list(range(i * batch, (i + 1) * batch)) for i in count()), workers, device)
    try:
        for _ in range(1 + 2 * workers):  # what was made ahead
            episode = next(stream)
            run(episode)
        started, steps = now(), 0
        with Utilisation(device) as used:
            while not steps or (not quick and now() - started < STEP_SECONDS):
                episode = next(stream)
                used.call(partial(run, episode))
                steps += 1
        rate = steps * batch / used.seconds
    finally:
        stream.close()
    alone = batch / measure(partial(run, episode), device, quick).seconds
    share, read_by = used.share()
    return {
        "batch": batch,
        "workers": workers,
        "steps": steps,
        "episodes_per_second": rate,
        "alone_per_second": alone,
        "share": rate / alone,
        "utilisation": share,
        "read_by": read_by,
    }
