"""``python -m util.report rescore CHECKPOINT``: one checkpoint by many protocols, in a table of what they alone do."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from util.config.settings import Config
from util.engine.processes import join
from util.engine.reproduce import undone
from util.engine.stored_config import settings_of
from util.engine.test_jobs import Request, build_test_jobs, own_config, result_folder
from util.engine.testing import test
from util.errors import UserError, nearest
from util.report.schema import RESULT, read_result
from util.report.scores import FINAL
from util.report.table import passes_in_words, seeds_in_words, text_table
from util.report.track import in_words, track_of

log = logging.getLogger("symnet")
ALL = "all"
OTHER_TASK = "another task: several classes at once, or queries without the class"
HEADER = ["protocol", "episodes", "seeds", "input", "scored on", "mIoU %", "FB-IoU %", "mIoU - first"]


def rescore(weights: Path, config: Path | None, protocols: Sequence[str], overrides: Sequence[str]) -> str:
    """Score a checkpoint by several protocols, those without a result yet, and return the table of all.

    Args:
        config: of a checkpoint that carries none.
        protocols: names of entries, or ``ALL``: every entry of one class per episode that fits model and data.

    Raises:
        UserError: the checkpoint, the config, the data or a named protocol does not fit, or no protocol does.
    """
    settings = settings_of(weights, config, [*overrides, f"test.checkpoint={weights}"])
    names, left_out = _fitting(settings) if ALL in protocols else (_known(settings, protocols), {})
    if not names:
        raise UserError(f"{weights}: no protocol fits: {'; '.join(f'{n}: {why}' for n, why in left_out.items())}")
    shot = settings.data.shot
    files = {name: result_folder(own_config(settings, name, shot), name) / RESULT for name in names}
    missing = [name for name, path in files.items() if undone(own_config(settings, name, shot), path)]
    log.info("%s: %d protocols, %d without a result", weights, len(names), len(missing))
    if missing:
        test(settings, Request(protocols=tuple(missing)))
    return _table([read_result(path) for path in files.values()], left_out)


def _known(settings: Config, names: Sequence[str]) -> list[str]:
    """Return the names of entries.

    Raises:
        UserError: one is unknown.
    """
    for name in names:
        if name not in settings.protocols:
            raise UserError(f"--protocols {name}: unknown{nearest(name, settings.protocols)}")
    return list(dict.fromkeys(names))


def _fitting(settings: Config) -> tuple[list[str], dict[str, str]]:
    """Return the protocols of one class that model and data fit, and why each other is left out."""
    fitting, left_out = [], {}
    with join(settings.run.device, "test.batch, data.size or data.workers") as world:
        for name, protocol in settings.protocols.items():
            if protocol.ways > 1 or protocol.absent > 0:
                left_out[name] = OTHER_TASK
                continue
            try:
                build_test_jobs(settings, Request(protocols=(name,)), world)
            except UserError as error:
                left_out[name] = str(error)
            else:
                fitting.append(name)
    return fitting, left_out


def _table(results: list[dict[str, Any]], left_out: dict[str, str]) -> str:
    """Return the table of one checkpoint's results, with the track and the protocols that were left out."""
    first, rows = results[0]["mean"][FINAL]["miou"], []
    for result in results:
        scores = result["mean"][FINAL]
        marks = ", ".join(filter(None, ["quick look" if result["quick_look"] else "", passes_in_words(result)]))
        rows.append(
            [
                result["protocol"] + (f" ({marks})" if marks else ""),
                str(result["episodes"]),
                seeds_in_words(result).lower() if result.get("other_seeds") else str(len(result["seeds"])),
                result["input"],
                result["scored_on"],
                f"{scores['miou']:.2f}",
                f"{scores['fb_iou']:.2f}" if "fb_iou" in scores else "-",
                f"{scores['miou'] - first:+.2f}",
            ]
        )
    of = results[0]
    lines = [
        f"{of['checkpoint']}, {of['dataset']} fold {of['fold']}, {of['shot']}-shot, weights {of['weights'][:8]}",
        text_table(HEADER, rows),
        in_words({of["shot"]: track_of(of)}),
        *(f"left out: {name}: {why}" for name, why in left_out.items()),
    ]
    return "\n".join(lines)
