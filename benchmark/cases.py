"""What ``speed`` and ``memory`` measure: a model at a size, an evaluation episode of some shots or a training step."""

from __future__ import annotations

import argparse
from typing import Any

from benchmark.reporting import add_common_options, add_network_options
from benchmark.synthetic import SIZES, check
from benchmark.ways import EVALUATION, STAGES, TRAINED, TRAINING, TRAINING_BATCH
from util.cli import numbers, words
from util.errors import UserError, nearest


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the two commands take."""
    parser.add_argument("--models", default=",".join(SIZES), help=f"default {','.join(SIZES)}")
    parser.add_argument("--shot", default="1,5", help="shots of the evaluation episodes; default 1,5")
    parser.add_argument("--stages", default=",".join(STAGES), help=f"default {','.join(STAGES)}; not all models train")
    add_network_options(parser)
    add_common_options(parser)


def cases(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return model, backbone, size, shots, batch and stage of everything that the options of cases ask for.

    Raises:
        UserError: an unknown model or stage, or a side that a model does not take.
    """
    names, stages, shots = words(options.models), words(options.stages), numbers("--shot", options.shot)
    check(names, options.size)
    for stage in stages:
        if stage not in STAGES:
            raise UserError(f"--stages: '{stage}' is none{nearest(stage, STAGES)}")
    out = []
    for name in names:
        case = {"model": name, "backbone": options.backbone, "size": options.size or SIZES[name]}
        if EVALUATION in stages:
            out += [{**case, "shots": count, "batch": 1, "stage": EVALUATION} for count in shots]
        if TRAINING in stages and name in TRAINED:
            out.append({**case, "shots": 1, "batch": TRAINING_BATCH, "stage": TRAINING})
    return out


def in_words(case: dict[str, Any]) -> str:
    """Return a case as tables name it."""
    batch = "" if case["batch"] == 1 else f", batch {case['batch']}"
    return f"{case['model']} {case['backbone']}, {case['size']} px, {case['shots']}-shot {case['stage']}{batch}"
