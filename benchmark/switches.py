"""Measure the cost of each step beyond Sym-Net's paper, relative to the published network.

All networks take turns in every round; a ratio is the median over rounds of the quotients within a round.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmark.reporting import add_common_options, add_network_options, conditions, progress, report, set_up, whole
from benchmark.synthetic import SIZES, build, check_models, episode
from benchmark.timing import in_turns, quotient
from benchmark.ways import OURS, PLAIN, STAGES, TRAINING, TRAINING_BATCH, encoder_pass, make

MODEL, EXTENDED = "symnet", "symnet_plus"
PUBLISHED, UNIT = "published", "plain encoder"
LIKELIHOOD, MATCH = {"calibration": "likelihood"}, {"self_support": "match"}
CONV4D = {"correlation.kind": "conv4d"}
SWITCHES: dict[str, dict[str, str]] = {  # network -> settings that differ from the published one
    PUBLISHED: {},
    "likelihood": LIKELIHOOD,
    "match": MATCH,
    "4D head": CONV4D,
    "likelihood, match, 4D head": {**LIKELIHOOD, **MATCH, **CONV4D},
}
HEADER = ["network", "parameters", "evaluation units", "beside published", "training step units", "beside published"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--shot", type=whole, default=1, help="default 1")
    add_network_options(parser)
    add_common_options(parser)


def run(options: argparse.Namespace) -> int:
    """Measure both stages of every network and print the table."""
    check_models((MODEL,), options.size)
    clock, size = set_up(options), options.size or SIZES[MODEL]
    measured_under = conditions(clock, options.threads)
    networks = {
        name: build(EXTENDED if changed else MODEL, options.backbone, size, options.shot, changed).to(clock.device)
        for name, changed in SWITCHES.items()
    }
    rows: dict[str, dict[str, Any]] = {
        name: {"network": name, "parameters": sum(p.numel() for p in network.parameters())}
        for name, network in networks.items()
    }
    for stage in STAGES:
        progress(f"{MODEL} {options.backbone}, {size} px, {options.shot}-shot {stage}")
        batch = TRAINING_BATCH if stage == TRAINING else 1
        inputs = episode(size, options.shot, clock.device, batch)
        runs = {name: make(stage, MODEL, OURS, network, inputs) for name, network in networks.items()}
        seconds = in_turns({UNIT: encoder_pass(PLAIN, networks[PUBLISHED], inputs), **runs}, options.repeats, clock)
        for name, row in rows.items():
            row[f"{stage}_units"] = quotient(seconds, name, UNIT) / batch
            row[f"{stage}_beside_published"] = quotient(seconds, name, PUBLISHED)
    title = f"{MODEL} {options.backbone}, {size} px, {options.shot}-shot; a unit is one image through the plain encoder"
    return report(
        options, measured_under, {title: (HEADER, [_line(row) for row in rows.values()])}, list(rows.values())
    )


def _line(row: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    costs = (f"{row[f'{stage}_{what}']:.2f}" for stage in STAGES for what in ("units", "beside_published"))
    return [row["network"], f"{row['parameters']:,}", *costs]
