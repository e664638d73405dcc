"""``python -m util.report verify RUN``: whether a result can be trusted, from its files, its data and its weights.

Scores are counted again from ``episodes.jsonl``; the result's statements about its test are compared with its config;
episodes are compared with their digest and with those that the protocol draws from the list; list and weights are read
again where data and checkpoint are there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from util.data.manifest import read_manifest
from util.engine.result_checks import (
    check_digests,
    check_presence,
    check_statements,
    draw_difference,
    list_difference,
    tested_config,
    weights_difference,
)
from util.engine.run_context import RunContext, make_run_context
from util.engine.run_data import images_for_test
from util.errors import UserError
from util.read_files import read_json
from util.report.agreement import check_counted, check_episodes, check_scores
from util.report.schema import MANIFEST, check_result, find_results
from util.report.table import seeds_in_words, text_table, title

AGREES, DIFFERS, UNCHECKED = "agrees", "DIFFERS", "not checked"
EPISODES, LIST, DRAW, WEIGHTS = "episodes", "list", "draw of the episodes", "weights"  # subjects of checks


@dataclass(frozen=True)
class Check:
    """One comparison: its subject, its outcome (``AGREES``, ``DIFFERS`` or ``UNCHECKED``), and the reason."""

    subject: str
    outcome: str
    reason: str = ""


@dataclass(frozen=True)
class Verification:
    """All checks of one result."""

    path: Path
    name: str
    checks: list[Check]
    departures: list[str]

    @property
    def agrees(self) -> bool:
        """Whether no check found a difference."""
        return all(check.outcome != DIFFERS for check in self.checks)

    @property
    def verdict(self) -> str:
        """The conclusion, as a sentence."""
        unchecked = [check.subject for check in self.checks if check.outcome == UNCHECKED]
        if not self.agrees:
            return "not to be trusted: score the run again"
        whole = f"scores and episodes agree; not checked: {', '.join(unchecked)}" if unchecked else "can be trusted"
        departures = ", ".join(self.departures)
        return f"{whole}; not the protocol's number ({departures})" if departures else whole

    def text(self) -> str:
        """Return title, table of the checks and verdict."""
        rows = [[check.subject, check.outcome, check.reason] for check in self.checks]
        return "\n".join([f"{self.path}: {self.name}", text_table(["check", "outcome", "reason"], rows), self.verdict])


def verify(paths: Sequence[Path]) -> list[Verification]:
    """Return the verification of every result below some paths.

    Raises:
        UserError: a path holds no result, or a file that is none.
    """
    return [_verified(path) for path in find_results(list(paths))]


def _verified(path: Path) -> Verification:
    try:
        result = check_result(read_json(path, "this result", "score the run again with test.py"), str(path))
    except UserError as error:
        return Verification(path, "no result", [Check("file", DIFFERS, str(error))], [])
    source, episodes = str(path), path.parent / MANIFEST
    checks = [_of_files("scores", lambda: check_scores(result, source))]
    try:
        config = tested_config(result, source)
        check_statements(result, config, source)
    except UserError as error:
        checks.append(Check("statements", DIFFERS, str(error)))
        return Verification(path, title(result), checks, _departures(result))
    checks.append(Check("statements", AGREES))
    of_episodes = _of_episodes(result, source, episodes)
    sound = all(check.outcome == AGREES for check in of_episodes if check.subject == EPISODES)
    checks += of_episodes
    try:
        context = make_run_context(config)
    except UserError as error:
        checks += [Check(subject, UNCHECKED, str(error)) for subject in (LIST, DRAW, WEIGHTS)]
        return Verification(path, title(result), checks, _departures(result))
    checks += _of_list(result, context, sound)
    checks.append(_of_inputs(WEIGHTS, lambda: weights_difference(result, context)))
    return Verification(path, title(result), checks, _departures(result))


def _of_episodes(result: dict[str, Any], source: str, path: Path) -> list[Check]:
    """Return the checks of the episodes beside a result and of their counts."""
    try:
        manifest = read_manifest(path)
    except UserError as error:
        return [Check(EPISODES, DIFFERS, str(error))]

    def check_counts() -> None:
        check_counted(result, manifest, path)
        check_episodes(result, manifest, source, path)

    checks = [_of_files("counts", check_counts), _of_files(EPISODES, lambda: check_digests(result, manifest))]
    if any("presence_accuracy" in scores for of_seed in result["per_seed"] for scores in of_seed.values()):
        checks.append(_of_files("presence", lambda: check_presence(result, manifest)))
    return checks


def _of_list(result: dict[str, Any], context: RunContext, sound: bool) -> list[Check]:
    """Return the checks of the list, and of the draw from it where the episodes are ``sound`` and were drawn."""
    config = context.config
    try:
        images = images_for_test(context, False, config.protocols[result["protocol"]])
    except UserError as error:
        return [Check(LIST, UNCHECKED, str(error)), Check(DRAW, UNCHECKED, "the list was not")]
    listed = _of_inputs(LIST, lambda: list_difference(result, config, images))
    unfit = {
        "a replay has no draw of its own": result["replayed"] is not None,
        "the episodes are not the result's": not sound,
        "the list is not the result's": listed.outcome != AGREES,
    }
    if reason := next((reason for reason, holds in unfit.items() if holds), None):
        return [listed, Check(DRAW, UNCHECKED, reason)]
    return [listed, _of_inputs(DRAW, lambda: draw_difference(result, context, images))]


def _of_files(subject: str, check: Callable[[], None]) -> Check:
    """Return the outcome of a check on the result's own files, where every error is a difference."""
    try:
        check()
    except UserError as error:
        return Check(subject, DIFFERS, str(error))
    return Check(subject, AGREES)


def _of_inputs(subject: str, check: Callable[[], str]) -> Check:
    """Return the outcome of a check against data or weights, which may be gone; it returns a difference or ''."""
    try:
        difference = check()
    except UserError as error:
        return Check(subject, UNCHECKED, str(error))
    return Check(subject, DIFFERS, difference) if difference else Check(subject, AGREES)


def _departures(result: dict[str, Any]) -> list[str]:
    """Return why a result is not the number of its protocol; empty if it is."""
    marks = {
        "quick look": result["quick_look"],
        seeds_in_words(result).lower(): result.get("other_seeds"),
        "replay": result["replayed"],
        "weights of another fold": result["fold_mismatch"],
        "test-time averaging": result.get("averaged"),
    }
    return [mark for mark, holds in marks.items() if holds]
