"""``python -m util.report verify RUN``: whether a result can be trusted, from its files, its data and its weights.

Scores are counted again from ``episodes.jsonl``; episodes are compared with their digest and with those that the
protocol draws from the list; list and weights are read again where data and checkpoint are there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from util.config.read import from_dict
from util.data.manifest import Manifest, digest_of_rows, read_manifest
from util.engine.run_context import make_run_context
from util.engine.run_data import images_for_test, protocol_sampler
from util.engine.test_jobs import own_config
from util.engine.weights import load_weights
from util.errors import UserError
from util.read_files import read_json
from util.report.agreement import check_episodes, check_scores
from util.report.schema import MANIFEST, check_result, find_results
from util.report.table import seeds_in_words, text_table, title

AGREES, DIFFERS, UNCHECKED = "agrees", "DIFFERS", "not checked"
DIGITS = 8  # of a digest, in messages


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
    result = check_result(read_json(path, "this result", "score the run again with test.py"), str(path))
    episodes = path.parent / MANIFEST
    checks = [_of_files("scores", lambda: check_scores(result, str(path)))]
    manifest: Manifest | None = None
    try:
        manifest = read_manifest(episodes)
    except UserError as error:
        checks.append(Check("episodes", DIFFERS, str(error)))
    if manifest is not None:
        counted = manifest
        checks.append(_of_files("counts", lambda: check_episodes(result, counted, str(path), episodes)))
        checks.append(_of_files("episodes", lambda: _check_digests(result, counted)))
    checks += _of_data(result, str(path))
    checks.append(_of_inputs("weights", lambda: _check_weights(result, str(path))))
    return Verification(path, title(result), checks, _departures(result))


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


def _check_digests(result: dict[str, Any], manifest: Manifest) -> None:
    """Refuse episodes that are not those of the result, in number or in content.

    Raises:
        UserError: names the seed.
    """
    seeds = [episode.get("seed", 0) for episode in manifest.episodes]
    for seed, expected in zip(result["seeds"], result["episode_digests"], strict=True):
        rows = [episode for episode in manifest.episodes if episode.get("seed", 0) == seed]
        if result["replayed"] is None and len(rows) != result["episodes"]:
            raise UserError(f"seed {seed}: {len(rows)} episodes, the result says {result['episodes']}")
        if digest_of_rows(rows) != expected:
            raise UserError(f"seed {seed}: other images or classes than the result's ({expected[:DIGITS]})")
    if other := set(Counter(seeds)) - set(result["seeds"]):
        raise UserError(f"episodes of seeds that the result does not have: {sorted(other)}")


def _of_data(result: dict[str, Any], source: str) -> list[Check]:
    """Return the checks of the list, and of the episodes that the protocol draws from it."""
    drawn: list[str] = []

    def check_list() -> str:
        config = own_config(from_dict(result["config"], source), result["protocol"], result["shot"])
        context, protocol = make_run_context(config), config.protocols[result["protocol"]]
        images = images_for_test(context, False, protocol)
        if images.digest != result["list"]:
            return f"{len(images.queries)} images with digest {images.digest[:DIGITS]}, not {result['list'][:DIGITS]}"
        if result["replayed"] is None:
            samplers = [protocol_sampler(context, images, protocol, seed) for seed in result["seeds"]]
            drawn.extend(sampler.digest(result["episodes"]) for sampler in samplers)
        return ""

    def check_draw() -> str:
        if not drawn:
            raise UserError("the list was not" if result["replayed"] is None else "a replay has no draw of its own")
        return "" if drawn == result["episode_digests"] else "the protocol draws other episodes from this list"

    return [_of_inputs("list", check_list), _of_inputs("draw of the episodes", check_draw)]


def _check_weights(result: dict[str, Any], source: str) -> str:
    """Return in words how the weights differ from those of the result, '' if they do not."""
    config = own_config(from_dict(result["config"], source), result["protocol"], result["shot"])
    _, weights = load_weights(make_run_context(config), result["input_side"])
    return "" if weights.digest == result["weights"] else f"{weights.source} holds {weights.digest[:DIGITS]} today"


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
