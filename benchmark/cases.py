"""The cases of ``speed`` and ``memory``: a model at one size, in evaluation episodes or training steps."""

from __future__ import annotations

import argparse
from typing import Any

from benchmark.reporting import add_common_options, add_network_options
from benchmark.synthetic import SIZES, check_models
from benchmark.ways import EVALUATION, STAGES, TRAINED, TRAINING, TRAINING_BATCH
from util.cli import numbers, words
from util.errors import UserError, nearest


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of both commands."""
    parser.add_argument("--models", default=",".join(SIZES), help=f"default {','.join(SIZES)}")
    parser.add_argument("--shot", default="1,5", help="shots of the evaluation episodes; default 1,5")
    parser.add_argument(
        "--stages", default=",".join(STAGES), help=f"default {','.join(STAGES)}; training: {', '.join(TRAINED)} only"
    )
    add_network_options(parser)
    add_common_options(parser)


def cases_of(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return every case of a command line: model, backbone, size in pixels, shots, batch and stage.

    Raises:
        UserError: an unknown model or stage, or a size that a model does not take.
    """
    names, stages, shots = words(options.models), words(options.stages), numbers("--shot", options.shot)
    check_models(names, options.size)
    for stage in stages:
        if stage not in STAGES:
            raise UserError(f"--stages: '{stage}' is no stage{nearest(stage, STAGES)}")
    cases = []
    for name in names:
        case = {"model": name, "backbone": options.backbone, "size": options.size or SIZES[name]}
        if EVALUATION in stages:
            cases += [{**case, "shots": count, "batch": 1, "stage": EVALUATION} for count in shots]
        if TRAINING in stages and name in TRAINED:
            cases.append({**case, "shots": 1, "batch": TRAINING_BATCH, "stage": TRAINING})
    return cases


def describe(case: dict[str, Any]) -> str:
    """Return the name of a case in tables."""
    batch = "" if case["batch"] == 1 else f", batch {case['batch']}"
    return f"{case['model']} {case['backbone']}, {case['size']} px, {case['shots']}-shot {case['stage']}{batch}"
