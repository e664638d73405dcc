"""Fixtures that the report tests share: result folders of drawn counts, in the form that a test writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from util.data.lists.manifest import Manifest
from util.report.schema import MANIFEST, RESULT, SCHEMA, check_result
from util.report.scores import over_seeds

CLASSES = (1, 2, 3)
BAMS_TRACK = {"encoder_data": "ImageNet-1k", "text": False, "training": "in-domain", "novel_photos": "removed"}


def counts(seed: int, episodes: int, skill: float) -> list[dict]:
    """Return episodes with counts: unions of 1000 pixels, intersections around ``skill`` of them."""
    random = np.random.default_rng(seed)
    share = np.clip(random.normal(skill, 0.1, episodes), 0, 1)
    return [
        {
            "seed": 0,
            "number": n,
            "query": f"photo{n}",
            "class": CLASSES[n % 3],
            "supports": [f"photo{n + 1}"],
            "outputs": {"final": [int(1000 * s), 1000, 5000, 6000], "meta": [500, 1000, 5000, 6000]},
        }
        for n, s in enumerate(share)
    ]


def result(**changes: Any) -> dict[str, Any]:
    """Return a result that keeps to the schema, with some keys changed."""
    scores = {"miou": 50.0, "fb_iou": 70.0}
    content = {
        "schema": SCHEMA,
        "protocol": "bam",
        "protocol_settings": {"query": "sequential", "episodes": 1000, "seeds": [0], "scored_on": "square"},
        "input": "letterbox 473 x 473",
        "input_side": 473,
        "scored_on": "square",
        "quick_look": False,
        "classes_without_episodes": 0,
        "other_seeds": False,
        "averaged": [],
        "passes": 1,
        "encoder_licence": None,
        "method": "",
        "encoder": "",
        "list_note": "",
        "calibration": None,
        "track": {},
        "weights_mark": "",
        "training": [],
        "trained_otherwise": [],
        "replayed": None,
        "episodes": 1000,
        "seeds": [0],
        "shot": 1,
        "dataset": "pascal",
        "fold": 0,
        "folds": 4,
        "fold_rule": "contiguous",
        "novel": {"1": "aeroplane"},
        "size": 473,
        "min_pixels": 2048,
        "exclude_novel": True,
        "text": "word2vec",
        "model": "symnet",
        "backbone": "resnet50",
        "run": f"pascal_split{changes.get('fold', 0)}_resnet50",
        "checkpoint": "best.pth",
        "weights": "ab" * 32,
        "trained_with": None,
        "fold_mismatch": False,
        "list": f"{changes.get('fold', 0)}" * 64,
        "list_images": 364,
        "list_source": "made from the masks",
        "left_out": [],
        "episode_digests": ["cd" * 32],
        "manifest": MANIFEST,
        "per_seed": [{"final": {**scores, "per_class": {"1": 50.0}}}],
        "mean": {"final": dict(scores), "meta": {"miou": 55.0, "fb_iou": 75.0}},
        "deviation": {"final": {"miou": 0.0, "fb_iou": 0.0}, "meta": {"miou": 0.0, "fb_iou": 0.0}},
        "device": "cpu (2 threads)",
        "processes": 1,
        "precision": "float32",
        "batch": 8,
        "date": "2026-11-20T10:00:00+00:00",
        "minutes": 1.5,
        "shared_with": [],
        "config": {},
        "environment": {},
    }
    content["track"] = {**BAMS_TRACK, "train_shot": changes.get("shot", 1)}
    content |= changes
    if "per_seed" not in changes:  # as if each class had the score of the mean
        one = {o: {**scores, "per_class": {"1": scores["miou"]}} for o, scores in content["mean"].items()}
        content["per_seed"] = [one for _ in content["seeds"]]
        content |= {k: v for k, v in over_seeds(content["per_seed"]).items() if k not in changes}
    return check_result(content, "drawn")


def scored(episodes: list[dict]) -> dict[str, Any]:
    """Return the scores of a result with these episodes."""
    seeds = list(dict.fromkeys(e["seed"] for e in episodes))
    per_seed = []
    for seed in seeds:
        outputs: dict[str, Any] = {}
        for name in episodes[0]["outputs"]:
            sums = {c: [0] * 4 for c in CLASSES}
            for e in (e for e in episodes if e["seed"] == seed):
                sums[e["class"]] = [a + b for a, b in zip(sums[e["class"]], e["outputs"][name])]
            shown = {e["class"] for e in episodes if e["seed"] == seed}
            per_class = {str(c): 100 * s[0] / max(s[1], 1) for c, s in sums.items() if c in shown}
            total = [sum(column) for column in zip(*sums.values())]
            fb_iou = 50 * (total[0] / total[1] + total[2] / total[3])
            outputs[name] = {"miou": sum(per_class.values()) / len(per_class), "fb_iou": fb_iou, "per_class": per_class}
        per_seed.append(outputs)
    return {"seeds": seeds, "per_seed": per_seed, **over_seeds(per_seed), "episode_digests": ["cd" * 32] * len(seeds)}


@pytest.fixture
def leave(tmp_path: Path):
    """Return a function that leaves a result folder behind and gives its path."""

    def write(name: str, counted: list[dict] | None = None, **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        if counted:
            (folder / MANIFEST).write_text(Manifest({"fold": 0}, counted).text())
            if all(len(e.get("outputs", {}).get("final") or ()) == 4 for e in counted):
                changes = scored(counted) | changes
        (folder / RESULT).write_text(json.dumps(result(**changes)))
        return folder

    return write
