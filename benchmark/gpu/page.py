"""The page ``report.md``: targets beside measured values, what failed or was skipped, and the tables of all parts."""

from __future__ import annotations

from typing import Any

from benchmark.gpu import loading, methods, parity, processes
from benchmark.gpu.parts import PARTS, replaced
from benchmark.gpu.settings import ERRORS
from benchmark.gpu.state import DONE, FAILED, SKIPPED, UNFINISHED, State
from benchmark.reporting import Table
from benchmark.ways import EVALUATION, TRAINING
from util.report.table import text_table

MAIN = "symnet"
TARGETS = {EVALUATION: 10.0, TRAINING: 3.0}  # times a plain float32 loop of single episodes
UTILISATION = 0.85  # in training with the real loader


def page(state: State) -> str:
    """Return the report as Markdown."""
    content = state.content
    quick = "A trial of the code by --quick: its numbers are no measurements." if content.get("quick") else ""
    done = "All parts have ended." if content["finished"] else "Not finished; the same command continues."
    spent = f"{content['spent_s'] / 60:.1f} minutes, slices: {content['slices']}."
    out = ["# Report of `python -m benchmark gpu`", " ".join(filter(None, (done, spent, quick)))]
    out += ["## Targets", _text(_targets(state))]
    failures = errors(state)
    if failures:
        out += ["## Failed", _bullets(failures)]
    absent = [f"{PARTS[p].TITLE}, {u}: {e['reason']}" for p, u, e in state.with_status(SKIPPED, UNFINISHED)]
    absent += [f"package {name} is not installed: {lost}" for name, lost in replaced().items()]
    if absent:
        out += ["## Not measured", _bullets(absent)]
    for name, part in PARTS.items():
        tables = part.tables(state.results(name)) if state.results(name) else {}
        if tables:
            out += [f"## {_capital(part.TITLE)}"]
        for title, table in tables.items():
            out += [f"{_capital(title)}:", _text(table)]
    return "\n\n".join(out) + "\n"


def errors(state: State) -> list[str]:
    """Return a line for everything that failed, results outside of their bounds among them."""
    lines = [f"{PARTS[part].TITLE}, {unit}: {entry['error']}" for part, unit, entry in state.with_status(FAILED)]
    for part, unit, entry in state.with_status(DONE):
        result = entry["result"]
        lines += [f"{PARTS[part].TITLE}, {unit}: {line}" for line in result.get(ERRORS, [])]
        if PARTS[part] is parity and result["outside"]:
            lines.append(f"{parity.TITLE}, {unit}: outside of its bounds: {', '.join(result['outside'])}")
        if PARTS[part] is processes and not result["equal"]:
            lines.append(f"{processes.TITLE}, {unit}: losses or weights differ from those of one process")
    return lines


def _targets(state: State) -> Table:
    """Return every target with the measured value."""
    lines: list[list[str]] = []
    measured = state.results("methods")
    for stage, least in TARGETS.items():
        ratios = {name: methods.best_ratio(result, stage) for name, result in measured.items()}
        known = {name: ratio for name, ratio in ratios.items() if ratio is not None}
        for name in sorted(known, key=lambda name: (name != MAIN, name)):
            lines.append(
                _target(f"{stage}, {name}", f"{least:g} x plain", f"{known[name]:.1f} x", known[name] >= least)
            )
    step = state.results("loading").get(loading.STEP, {})
    used: Any = step.get("utilisation")
    reached = None if used is None else used > UTILISATION
    lines.append(_target("GPU busy, training with loader", f"above {UTILISATION:.0%}", methods.busy(used), reached))
    bounds = state.results("parity")
    within = [not row["outside"] for row in bounds.values()]
    lines.append(_target("measured cases", "all", f"{sum(within)} of {len(within)}", all(within) if within else None))
    if state.content.get("quick"):
        lines = [[*line[:-1], "trial"] for line in lines]
    return ["target", "value", "measured", "met or missed"], lines


def _target(name: str, wanted: str, value: str, met: bool | None) -> list[str]:
    verdict = {True: "met", False: "missed", None: "not measured"}[met]
    return [name, wanted, "" if met is None else value, verdict]


def _text(table: Table) -> str:
    header, lines = table
    return text_table(header, lines)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
