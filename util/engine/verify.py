"""``python -m util.report verify RUN``: whether a result can be trusted, from its files, its data and its weights.

Scores are counted again from ``episodes.jsonl``; what the result says about its test is compared with its config;
episodes are compared with their digest and with those that the protocol draws from the list; list and weights are read
again where data and checkpoint are there.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.encoders.registry import title_of
from model.registry import class_of
from util.config.read import MODEL_NAME, from_dict, to_dict
from util.data.manifest import HEADER, Manifest, digest_of_rows, read_manifest
from util.engine.evaluation import ALL_FOREGROUND
from util.engine.input_size import scored_on, view_of
from util.engine.presence import presence_scores
from util.engine.result import track_of_weights
from util.engine.run_context import make_run_context
from util.engine.run_data import images_for_test, protocol_sampler
from util.engine.test_jobs import own_config
from util.engine.weights import NO_CHECKPOINT, OWN, load_weights, weights_mark
from util.errors import UserError
from util.read_files import read_json
from util.report.agreement import FULL, MEND, TOLERANCE, check_episodes, check_scores
from util.report.schema import MANIFEST, check_result, find_results
from util.report.scores import FINAL
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
    try:
        result = check_result(read_json(path, "this result", "score the run again with test.py"), str(path))
    except UserError as error:
        return Verification(path, "no result", [Check("file", DIFFERS, str(error))], [])
    episodes = path.parent / MANIFEST
    checks = [
        _of_files("scores", lambda: check_scores(result, str(path))),
        _of_files("statements", lambda: _check_statements(result, str(path))),
    ]
    if checks[-1].outcome == DIFFERS:
        return Verification(path, title(result), checks, _departures(result))
    manifest: Manifest | None = None
    try:
        manifest = read_manifest(episodes)
    except UserError as error:
        checks.append(Check("episodes", DIFFERS, str(error)))
    if manifest is not None:
        episodes_of = manifest
        checks.append(_of_files("counts", lambda: check_episodes(result, episodes_of, str(path), episodes, True)))
        checks.append(_of_files("episodes", lambda: _check_digests(result, episodes_of)))
        if any("presence_accuracy" in scores for of_seed in result["per_seed"] for scores in of_seed.values()):
            checks.append(_of_files("presence", lambda: _check_presence(result, episodes_of)))
    sound = all(check.outcome == AGREES for check in checks if check.subject == "episodes")
    checks += _of_data(result, str(path), sound)
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


def _check_statements(result: dict[str, Any], source: str) -> None:
    """Refuse a result that says something else about its test than its config.

    Raises:
        UserError: names the key; or the config cannot be read.
    """
    name, shot, seeds = result["protocol"], result["shot"], result["seeds"]
    config = from_dict(result["config"], source)
    if name not in config.protocols:
        raise UserError(f"{source}: its config has no protocol '{name}'; {MEND}")
    config = own_config(config, name, shot)
    protocol, replayed, data = config.protocols[name], result["replayed"] is not None, config.data
    view, model_class = view_of(config, protocol), class_of(config.model)
    expected = {
        "protocol_settings": asdict(protocol),
        "scored_on": scored_on(view, protocol),
        "input_side": view.side or None,
        "averaged": config.test.averaged(shot),
        "passes": config.test.passes(shot),
        **{key: getattr(data, key) for key in ("fold", "folds", "fold_rule", "size", "min_pixels", "text")},
        "dataset": data.name,
        "model": to_dict(config)["model"][MODEL_NAME],
        "backbone": config.model.backbone(),
        "method": model_class.title,
        "encoder": title_of(config.model.backbone()),
        "run": str(config.run.name),
        "precision": config.run.precision,
        "batch": config.test.batch,
        "novel": {
            c: data.classes[int(c) - 1] for c in result["novel"] if c.isdecimal() and 0 < int(c) <= len(data.classes)
        },
        "manifest": MANIFEST,
    }
    if config.test.checkpoint in (*OWN, NO_CHECKPOINT):
        expected["weights_mark"] = weights_mark(config)
    if not replayed:
        expected |= {
            "quick_look": result["episodes"] != protocol.episodes,
            "other_seeds": seeds != protocol.seeds,
            "episodes": config.test.episodes or protocol.episodes,
            "seeds": config.test.seeds or protocol.seeds,
        }
    for key, value in json.loads(json.dumps(expected)).items():
        given = result.get(key, value)  # older results lack some
        if isinstance(given, dict):
            value = {k: v for k, v in value.items() if k in given}
        if given != value:
            raise UserError(f"{source}: says {key} = {given}, its config {value}; {MEND}")


def _check_presence(result: dict[str, Any], manifest: Manifest) -> None:
    """Refuse presence scores that are not those of the episodes.

    Whether a mask was shown does not follow from the counts where all of its pixels may be ignored ones; such episodes
    leave a range.

    Raises:
        UserError: names the score, or an episode lacks what it is counted from.
    """
    calibration = result.get("calibration")
    threshold = -math.inf if calibration is None else calibration["threshold"]
    for seed, of_seed in zip(result["seeds"], result["per_seed"], strict=True):
        rows = [episode for episode in manifest.episodes if episode.get("seed", 0) == seed]
        try:
            scores = [float(row["presence"]) for row in rows]
            truth = [row["outputs"][ALL_FOREGROUND][0] > 0 for row in rows]
            counted = [sum(row["outputs"][FINAL][:2]) > row["outputs"][ALL_FOREGROUND][0] for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"seed {seed}: an episode lacks its presence or counts ({error!r}); {MEND}") from None
        right = [known == present for known, present in zip(counted, truth, strict=True)]
        open_ = [not known and score >= threshold for known, score in zip(counted, scores, strict=True)]
        least, most = (
            FULL * sum(map(count, right, open_)) / len(rows)
            for count in (lambda r, o: r and not o, lambda r, o: r or o)
        )
        bounds = {key: (value, value) for key, value in presence_scores(truth, scores, counted).items()}
        bounds["presence_accuracy"] = least, most
        for key, (least, most) in bounds.items():
            given = of_seed[FINAL].get(key, least)
            if not least - TOLERANCE <= given <= most + TOLERANCE:
                raise UserError(f"seed {seed}: {key} is {given:.4f}, that of the episodes {least:.4f}; {MEND}")


def _check_digests(result: dict[str, Any], manifest: Manifest) -> None:
    """Refuse episodes that are not those of the result, in number or in content.

    Raises:
        UserError: names the seed.
    """
    for key in HEADER.keys() & result.keys() & manifest.header.keys() - {"averaged"}:
        if manifest.header[key] != result[key]:
            raise UserError(f"{MANIFEST} has {key} {manifest.header[key]}, the result {result[key]}; {MEND}")
    seeds = [episode.get("seed", 0) for episode in manifest.episodes]
    for seed, expected in zip(result["seeds"], result["episode_digests"], strict=True):
        rows = [episode for episode in manifest.episodes if episode.get("seed", 0) == seed]
        if result["replayed"] is None and len(rows) != result["episodes"]:
            raise UserError(f"seed {seed}: {len(rows)} episodes, the result says {result['episodes']}")
        if digest_of_rows(rows) != expected:
            raise UserError(f"seed {seed}: other images or classes than the result's ({expected[:DIGITS]})")
    if other := set(Counter(seeds)) - set(result["seeds"]):
        raise UserError(f"episodes of seeds that the result does not have: {sorted(other)}")


def _of_data(result: dict[str, Any], source: str, draws: bool) -> list[Check]:
    """Return the checks of the list, and (if ``draws``) of the episodes that the protocol draws from it."""
    drawn: list[str] = []

    def check_list() -> str:
        config = own_config(from_dict(result["config"], source), result["protocol"], result["shot"])
        context, protocol = make_run_context(config), config.protocols[result["protocol"]]
        images = images_for_test(context, False, protocol)
        if images.digest != result["list"]:
            return f"{len(images.queries)} images with digest {images.digest[:DIGITS]}, not {result['list'][:DIGITS]}"
        if len(images.queries) != result["list_images"]:
            return f"{len(images.queries)} images, not {result['list_images']}"
        left_out = [config.data.classes[c - 1] for c in images.left_out]
        if left_out != result["left_out"]:
            return f"leaves out {left_out}, not {result['left_out']}"
        if draws and result["replayed"] is None:
            samplers = [protocol_sampler(context, images, protocol, seed) for seed in result["seeds"]]
            drawn.extend(sampler.digest(result["episodes"]) for sampler in samplers)
        return ""

    def check_draw() -> str:
        if not drawn:
            if not draws:
                raise UserError("the episodes are not the result's")
            raise UserError("the list was not" if result["replayed"] is None else "a replay has no draw of its own")
        return "" if drawn == result["episode_digests"] else "the protocol draws other episodes from this list"

    return [_of_inputs("list", check_list), _of_inputs("draw of the episodes", check_draw)]


def _check_weights(result: dict[str, Any], source: str) -> str:
    """Return in words how the weights differ from those of the result, '' if they do not."""
    config = own_config(from_dict(result["config"], source), result["protocol"], result["shot"])
    context = make_run_context(config)
    view = view_of(config, config.protocols[result["protocol"]])
    _, weights = load_weights(context, view.side or None)
    expected = {"trained_with": weights.trained_with, "track": asdict(track_of_weights(context, weights))}
    for key, value in json.loads(json.dumps(expected)).items():
        if result.get(key, value) != value and weights.digest == result["weights"]:
            return f"the result says {key} = {result[key]}, the weights {value}"
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
