"""One figure of several methods on the same episodes: supports, query, truth, and a column for each method."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
from torch import Tensor
from torch.utils.data import Subset

from util.data.lists.manifest import read_manifest, ways_of
from util.errors import UserError
from util.evaluate.evaluate import FINAL, Scoreboard, run_pass
from util.evaluate.jobs import build_test_jobs
from util.evaluate.pictures import Kept, episode_panels
from util.evaluate.verify import config_of
from util.report.figure import write_figure
from util.report.paper_table import row_name
from util.report.pictures import Panels, draw
from util.report.schema import MANIFEST, find_results, read_result
from util.run.data import trials
from util.run.device import pick_device
from util.run.processes import World


def side_by_side(
    paths: Sequence[Path], episodes: Sequence[int], out: Path, suffix: str = "pdf", protocol: str | None = None
) -> list[Path]:
    """Predict some episodes by the networks of several results, draw them and return the files.

    Args:
        paths: results or folders with one each, of this protocol if it is named; in the order of the columns.
        episodes: numbers of episodes of the first seed, a row each.
        out: the figure's file, without its suffix.
        suffix: see ``write_figure``.

    Raises:
        UserError: no such episodes, or other ones in another result; weights or data are others than scored, or gone.
    """
    boards: list[Panels] = [[] for _ in episodes]
    first: tuple[Path, list] | None = None
    for path in dict.fromkeys(file for place in paths for file in find_results([place])):
        result = read_result(path)
        if protocol not in (None, result["protocol"]):
            continue
        scored = [e for e in read_manifest(path.parent / MANIFEST).episodes if e.get("seed", 0) == result["seeds"][0]]
        if wrong := [number for number in episodes if not 0 <= number < len(scored)]:
            raise UserError(f"--episodes {wrong[0]}: {path} has episodes 0 to {len(scored) - 1}")
        chosen = [(scored[number]["query"], ways_of(scored[number])) for number in episodes]
        first = first or (path, chosen)
        if chosen != first[1]:
            mend = "name results on the same episodes (test.py --manifest FILE.jsonl replays one's), or a --protocol"
            raise UserError(f"{first[0]} and {path} have other episodes of these numbers; {mend}")
        for board, panels in zip(boards, _panels(path, result, episodes), strict=True):
            caption, picture = panels[-1]
            board += [] if board else panels[:-1]
            board.append((caption.replace(FINAL, row_name(result), 1), picture))
    if first is None:
        raise UserError(f"{', '.join(map(str, paths))}: no result of protocol {protocol}")
    write_figure(out, draw(boards, aligned=True), suffix)
    return [out.with_name(f"{out.name}.{ending}") for ending in dict.fromkeys(("png", suffix))]


def _panels(path: Path, result: dict, episodes: Sequence[int]) -> list[Panels]:
    """Return the panels of a result's episodes, the prediction last."""
    config = config_of(path, result)
    config = replace(config, run=replace(config.run, device="auto"))
    world, found = World(0, 1, pick_device("auto")), dict[int, Kept]()
    (job,) = build_test_jobs(config, world, manifest=path.parent / MANIFEST)
    if job.protocol.generalised:
        raise UserError(f"{path}: base and novel classes in one map have no figure; test.py --save-images draws them")
    if job.weights.digest != result["weights"]:
        raise UserError(f"{path}: {job.weights.source} holds other weights today; score the run again with test.py")

    def keep(place: int, iou: float, predictions: dict[str, Tensor], _: object) -> None:
        mask = cv2.imencode(".png", predictions[FINAL][0].byte().cpu().numpy())[1]
        found[place] = Kept(iou, {FINAL: mask}, {})

    absent, calibration = job.protocol.absent > 0, job.calibration
    board = Scoreboard(len(config.data.classes), keep=keep, asks_presence=absent, calibration=calibration)
    sampler = job.samplers[result["seeds"][0]]
    data = Subset(trials(job.context, sampler, job.view, (job.scored_on,)), list(episodes))
    run_pass(job.prepared, data, len(episodes), [board], world, row_name(result))
    return [episode_panels(job, sampler(n), found[i], {FINAL: found[i].iou}) for i, n in enumerate(episodes)]
