"""The checks of ``report verify``, each a function of a result with its config, its episodes, the list or weights."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from model.encoders.registry import title_of
from model.registry import class_of
from util.config.read import MODEL_NAME, from_dict, to_dict
from util.config.settings import Config
from util.data.lists import ImageList
from util.data.manifest import HEADER, Manifest, digest_of_rows
from util.engine.evaluation import ALL_FOREGROUND
from util.engine.input_size import scored_on, view_of
from util.engine.presence import presence_scores
from util.engine.result import track_of_weights
from util.engine.run_context import RunContext
from util.engine.run_data import protocol_sampler
from util.engine.test_jobs import own_config
from util.engine.weights import NO_CHECKPOINT, OWN, load_weights, weights_mark
from util.errors import UserError
from util.report.agreement import MEND, agree
from util.report.schema import MANIFEST
from util.report.scores import FINAL

DIGITS = 8  # of a digest, in messages
Result = dict[str, Any]


def tested_config(result: Result, source: str) -> Config:
    """Return the config that repeats a result alone.

    Raises:
        UserError: the result's config cannot be read, or lacks its protocol.
    """
    config = from_dict(result["config"], source)
    if result["protocol"] not in config.protocols:
        raise UserError(f"{source}: its config has no protocol '{result['protocol']}'; {MEND}")
    return own_config(config, result["protocol"], result["shot"])


def check_statements(result: Result, config: Config, source: str) -> None:
    """Refuse a result that says something else about its test than its config.

    Raises:
        UserError: names the key.
    """
    protocol, data, shot = config.protocols[result["protocol"]], config.data, result["shot"]
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
    if result["replayed"] is None:
        expected |= {
            "quick_look": result["episodes"] != protocol.episodes,
            "other_seeds": result["seeds"] != protocol.seeds,
            "episodes": config.test.episodes or protocol.episodes,
            "seeds": config.test.seeds or protocol.seeds,
        }
    for key, value in json.loads(json.dumps(expected)).items():
        given = result.get(key, value)  # older results lack some
        if isinstance(given, dict):
            value = {k: v for k, v in value.items() if k in given}
        if given != value:
            raise UserError(f"{source}: says {key} = {given}, its config {value}; {MEND}")


def check_presence(result: Result, manifest: Manifest) -> None:
    """Refuse presence scores that are not those of the episodes.

    Raises:
        UserError: names the score, or an episode lacks the numbers that it is counted from.
    """
    for seed, of_seed in zip(result["seeds"], result["per_seed"], strict=True):
        rows = _of_seed(manifest, seed)
        try:
            scores = [float(row["presence"]) for row in rows]
            pixels = [row["outputs"][ALL_FOREGROUND][0] for row in rows]  # of the class in each query
            shown = [sum(row["outputs"][FINAL][:2]) > own for row, own in zip(rows, pixels, strict=True)]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"seed {seed}: an episode lacks its presence or counts ({error!r}); {MEND}") from None
        for key, value in presence_scores([own > 0 for own in pixels], scores, shown).items():
            agree(of_seed[FINAL].get(key, value), value, f"seed {seed}: {key}", f"that of {MANIFEST}")


def _of_seed(manifest: Manifest, seed: int) -> list[dict[str, Any]]:
    return [episode for episode in manifest.episodes if episode.get("seed", 0) == seed]


def check_digests(result: Result, manifest: Manifest) -> None:
    """Refuse episodes that are not those of the result, in number or in content.

    Raises:
        UserError: names the seed.
    """
    for key in HEADER.keys() & result.keys() & manifest.header.keys() - {"averaged"}:
        if manifest.header[key] != result[key]:
            raise UserError(f"{MANIFEST} has {key} {manifest.header[key]}, the result {result[key]}; {MEND}")
    for seed, expected in zip(result["seeds"], result["episode_digests"], strict=True):
        rows = _of_seed(manifest, seed)
        if result["replayed"] is None and len(rows) != result["episodes"]:
            raise UserError(f"seed {seed}: {len(rows)} episodes, the result says {result['episodes']}")
        if digest_of_rows(rows) != expected:
            raise UserError(f"seed {seed}: other images or classes than the result's ({expected[:DIGITS]})")
    if other := {episode.get("seed", 0) for episode in manifest.episodes} - set(result["seeds"]):
        raise UserError(f"episodes of seeds that the result does not have: {sorted(other)}")


def list_difference(result: Result, config: Config, images: ImageList) -> str:
    """Return in words how a test list differs from that of the result, '' if it does not."""
    if images.digest != result["list"]:
        return f"{len(images.queries)} images with digest {images.digest[:DIGITS]}, not {result['list'][:DIGITS]}"
    if len(images.queries) != result["list_images"]:
        return f"{len(images.queries)} images, not {result['list_images']}"
    left_out = [config.data.classes[c - 1] for c in images.left_out]
    return "" if left_out == result["left_out"] else f"leaves out {left_out}, not {result['left_out']}"


def draw_difference(result: Result, context: RunContext, images: ImageList) -> str:
    """Return in words whether the protocol draws other episodes from a list, '' if it draws the result's."""
    protocol = context.config.protocols[result["protocol"]]
    samplers = [protocol_sampler(context, images, protocol, seed) for seed in result["seeds"]]
    drawn = [sampler.digest(result["episodes"]) for sampler in samplers]
    return "" if drawn == result["episode_digests"] else "the protocol draws other episodes from this list"


def weights_difference(result: Result, context: RunContext) -> str:
    """Return in words how the weights differ from those of the result, '' if they do not.

    Raises:
        UserError: they cannot be loaded.
    """
    config = context.config
    view = view_of(config, config.protocols[result["protocol"]])
    _, weights = load_weights(context, view.side or None)
    if weights.digest != result["weights"]:
        return f"{weights.source} holds {weights.digest[:DIGITS]} today"
    expected = {"trained_with": weights.trained_with, "track": asdict(track_of_weights(context, weights))}
    for key, value in json.loads(json.dumps(expected)).items():
        if result.get(key, value) != value:
            return f"the result says {key} = {result[key]}, the weights {value}"
    return ""
