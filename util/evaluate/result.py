"""The result of a test: its scores and episodes, with all that another person needs to verify or repeat them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from itertools import count
from typing import Any, cast

import numpy as np

from model.encoders.registry import title_of
from model.registry import class_of
from util.config.parts import encoder_of
from util.config.read import changed_protocol, shipped, to_dict
from util.config.same import in_words
from util.data.lists.manifest import WITH_REPLACEMENT, Manifest, described
from util.data.views import LETTERBOX
from util.data.words.text import NO_TEXT
from util.evaluate.done import code_of_test
from util.evaluate.evaluation import Evaluation
from util.evaluate.schema import (
    MANIFEST,
    SCHEMA,
    Computation,
    Procedure,
    Result,
    Scored,
    SeedScores,
    Subject,
    Track,
    Trained,
    over_seeds,
)
from util.evaluate.scoring import Scoring
from util.evaluate.titles import MADE_FROM_MASKS, draw_text
from util.loop.device import describe
from util.loop.mask_metrics import METRICS, counted_in_episodes
from util.loop.metrics import FINAL, FURTHER, INTERSECTION, NUMBER, SIDES, UNION
from util.loop.processes import ProcessGroup
from util.run.data import photos_listed
from util.run.folder import environment
from util.run.input_size import input_in_words
from util.run.weights import Loaded
from util.weights.encoders import encoder_data, encoder_licence


def result_of(scoring: Scoring, per_seed: list[SeedScores], world: ProcessGroup) -> Result:
    """Return the result of a test in the form of ``util/evaluate/schema.py``."""
    config = scoring.config
    net = config.source.encoder or encoder_of(config.source.files)
    stated = shipped(config.data.name, config.model.name, net)
    return {
        "schema": SCHEMA,
        **_subject(scoring),
        **_procedure(scoring),
        **_training(scoring),
        **_list_and_episodes(scoring, per_seed),
        "per_seed": per_seed,
        **over_seeds(per_seed),
        "vectors": scoring.run.text_digest,
        "protocol_changes": in_words(changed_protocol(scoring.name, asdict(scoring.protocol), stated)),
        "classes_trained_on": scoring.classes_trained_on,
        "finished": scoring.loaded.finished,
        "cost": scoring.loaded.stored.cost,
        "metrics": {name: METRICS[name].facts for name in config.test.metrics},
        **_computation(scoring, world),
    }


def _subject(evaluation: Evaluation) -> Subject:
    """Return test, data set and method."""
    config = evaluation.config
    data = config.data
    return {
        "protocol": evaluation.name,
        "protocol_settings": asdict(evaluation.protocol),
        "shot": evaluation.shot,
        "dataset": data.name,
        "fold": data.fold,
        "folds": data.folds,
        "fold_rule": data.fold_rule,
        "size": data.size,
        "min_pixels": data.min_pixels,
        "text": data.text,
        "model": config.model.name,
        "backbone": config.model.encoder_name(),
        "method": class_of(config.model).title,
        "encoder": title_of(config.model.encoder_name()),
        "run": str(config.run.name),
        "checkpoint": str(evaluation.run.weights_file or evaluation.run.no_weights),
        "weights_mark": evaluation.run.weights_mark,
        "code": code_of_test(evaluation),
        "config": to_dict(config),
    }


def _procedure(scoring: Scoring) -> Procedure:
    """Return how a test scored its episodes."""
    return {
        "input": input_in_words(scoring.view, scoring.protocol.input, scoring.protocol.scored_on),
        "input_side": scoring.view.side or None,
        "scored_on": cast(Any, scoring.scored_on),  # one of three words
        "quick_look": scoring.quick_look,
        "other_seeds": scoring.replayed is None and list(scoring.samplers) != scoring.protocol.seeds,
        "replayed": None if scoring.replayed is None else str(scoring.replayed),
        "episodes": max(scoring.episodes.values()),
        "seeds": list(scoring.samplers),
    }


def _training(evaluation: Evaluation) -> Trained:
    """Return the facts on the weights of a test and on their training."""
    weights = evaluation.loaded
    parameters = [*weights.network.parameters()]
    learnt = [parameter for parameter in parameters if parameter.requires_grad and weights.is_trained]
    trained = weights.trained_with or {}
    return {
        "exclude_novel": trained.get("exclude_novel", evaluation.config.data.exclude_novel),
        "encoder_licence": encoder_licence(weights.network),
        "weights": weights.digest,
        "parameters": sum(parameter.numel() for parameter in parameters),
        "learnt_parameters": sum(parameter.numel() for parameter in learnt),
        "trained_with": weights.trained_with,
        "training": weights.stored.training,
        "trained_otherwise": weights.trained_otherwise,
        "track": track_of_weights(weights),
    }


def _list_and_episodes(evaluation: Evaluation, per_seed: list[SeedScores]) -> Scored:
    """Return the facts on the list, the photos and the episodes of a test."""
    images = evaluation.images
    names = evaluation.config.data.classes
    classes_with_episodes = {int(c) for scores in per_seed for c in scores[FINAL]["per_class"]}
    return {
        "novel": {str(c): names[c - 1] for c in sorted({*images.classes, *images.rare})},
        "list": images.digest,
        "list_images": len(images.queries),
        "content": images.files_digest,
        "whole_list": images.index.list_digest,
        "whole_content": images.index.content_digest,
        "photos_trained_on": photos_trained_on(evaluation),
        "photos_listed": photos_listed(images, evaluation.run),
        "list_source": images.source or MADE_FROM_MASKS,
        "list_note": images.note,
        "draw_note": evaluation.draw_note,
        "classes_without_episodes": len(set(images.classes) - classes_with_episodes),  # in no mean
        "left_out": [names[c - 1] for c in images.rare],
        "episode_digests": evaluation.episode_digests,
        "manifest": MANIFEST,
    }


def photos_trained_on(evaluation: Evaluation) -> int | None:
    """Return how many photos of a test its weights were trained on; None: they do not say on which."""
    photos = evaluation.loaded.stored.photos
    return None if photos is None else len(photos & evaluation.images.photos)


def _computation(scoring: Scoring, world: ProcessGroup) -> Computation:
    """Return when, on what and how long a test was computed."""
    return {
        "device": describe(world.device),
        "processes": world.size,
        "precision": scoring.prepared.precision,
        "batch": scoring.batch,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "minutes": scoring.seconds / 60,
        "environment": environment(scoring.config.imports),
    }


def manifest_of(scoring: Scoring, records: Sequence[dict[str, np.ndarray]], result: Result) -> Manifest:
    """Return every episode of a test with its counts, from each seed's records by output."""
    label_side = scoring.view.label_side if scoring.scored_on == LETTERBOX else None
    manifest = Manifest(_header(result, label_side))
    for seed, outputs in zip(scoring.samplers, records, strict=True):
        manifest.episodes += _episodes_of_seed(scoring, seed, outputs)
    return manifest


def _header(result: Result, label_side: int | None) -> dict[str, Any]:
    """Return the header of a result's manifest; ``label_side``: of letterboxed labels."""
    known: Mapping[str, object] = result
    protocol = result["protocol_settings"]
    ways = protocol["ways"]
    supports = WITH_REPLACEMENT if result["replayed"] else protocol["supports"]  # a replay may hold any
    return {
        **{key: known[key] for key in ("dataset", "folds", "fold_rule", "fold", "shot", "protocol", "scored_on")},
        "input_side": result["input_side"],
        "label_side": label_side,
        "episodes": draw_text(result),
        "supports": supports,
        **({"ways": ways} if ways > 1 else {}),
        **{key: known[key] for key in ("list", "weights", "quick_look")},
        "precision": result["precision"],
    }


def _episodes_of_seed(scoring: Scoring, seed: int, outputs: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return the episodes of a seed with their counts, from the records of each output."""
    names = scoring.images.index.names
    episodes = []
    for number in np.unique(outputs[FINAL][:, NUMBER]).astype(int).tolist():
        key = scoring.samplers[seed](number)
        episode: dict[str, Any] = {"seed": seed, "number": number, **described(key, names)}
        rows_by_output = {name: records[records[:, NUMBER] == number] for name, records in outputs.items()}
        episode["outputs"] = {name: _counts(rows) for name, rows in rows_by_output.items()}
        for column, metric in zip(count(FURTHER, 2), counted_in_episodes(scoring.config.test.metrics)):
            columns = slice(column, column + 2)
            episode[metric] = {name: rows[:, columns].ravel().tolist() for name, rows in rows_by_output.items()}
        episodes.append(episode)
    return episodes


def _counts(records: np.ndarray) -> list[int]:
    """Return the counts of one episode as a manifest has them; see ``util/data/lists/manifest.py``."""
    records = records.astype(np.int64)
    class_counts = records[:, INTERSECTION : UNION + 1].ravel().tolist()
    background, foreground = records[0, SIDES].reshape(2, 2).tolist()
    if len(records) == 1:  # the foreground is the class
        return class_counts + background
    return class_counts + foreground + background


def track_of_weights(weights: Loaded) -> Track:
    """Return the data and labels that a model with these weights learnt from."""
    run = weights.run
    config = run.config
    trained = weights.trained_with
    track = Track(
        encoder_data="" if config.model.encoder_name() is None else encoder_data(weights.network, weights.stored),
        text=(run.model_class.reads_text and config.data.text != NO_TEXT) or config.model.reads_names,
        training=config.test.trained_on if weights.is_trained else "none",
        novel_photos=None,
        train_shot=None,
    )
    if trained is not None:
        track["training"] = trained["name"]
        track["train_shot"] = trained["shot"]
        if not config.crosses_data_sets and trained["name"] == config.data.name:
            track["training"] = "in-domain"
            track["novel_photos"] = "removed" if trained.get("exclude_novel", True) else "kept"
    return track
