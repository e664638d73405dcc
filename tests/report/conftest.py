"""Fixtures that the report tests share: result folders of drawn counts, in the form that a test writes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.read import write_json
from util.data.lists.manifest import Manifest
from util.evaluate.schema import MANIFEST, RESULT, SCHEMA, Result, check_result, over_seeds

HD95 = {"hd95": {"title": "HD95", "unit": "px", "scale": 1.0, "smaller_is_better": True}}  # a metric of a user's own
CLASSES = (1, 2, 3)
BAMS_TRACK = {"encoder_data": "ImageNet-1k", "text": False, "training": "in-domain", "novel_photos": "removed"}
TITLES = {"symnet": "Sym-Net", "prototype": "prototype baseline"}
ENTRY = {"query": "sequential", "episodes": 1000, "seeds": [0], "scored_on": "square"}


def counts(seed: int, episodes: int, skill: float) -> list[dict]:
    """Return episodes with counts: unions of 1000 pixels, intersections around ``skill`` of them."""
    share = np.clip(np.random.default_rng(seed).normal(skill, 0.1, episodes), 0, 1)
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


def result(**changes: Any) -> Result:
    """Return a result that keeps to the schema, with some keys changed."""
    scores = {"miou": 50.0, "fb_iou": 70.0}
    fold, model, dataset = (changes.get(k, d) for k, d in (("fold", 0), ("model", "symnet"), ("dataset", "pascal")))
    text = {"input": "letterbox 473 x 473", "text": "word2vec", "checkpoint": "best.pth", "device": "cpu (2 threads)"}
    switches = dict.fromkeys(("quick_look", "other_seeds"), False)
    empty = {**dict.fromkeys(("list_note", "draw_note", "weights_mark"), "")}
    empty |= {key: [] for key in ("training", "trained_otherwise", "left_out")}
    unknown = dict.fromkeys(("encoder_licence", "replayed", "trained_with", "whole_list"))
    unknown |= dict.fromkeys(("whole_content", "photos_trained_on", "photos_listed"))
    content = {
        **{"schema": SCHEMA, "protocol": "bam", "protocol_settings": ENTRY, "input_side": 473, "scored_on": "square"},
        **{**text, **switches, **empty, **unknown, "classes_without_episodes": 0, "episodes": 1000},
        **{"seeds": [0], "shot": 1, "dataset": dataset, "fold": fold, "folds": 4, "fold_rule": "contiguous"},
        **{"novel": {"1": "aeroplane"}, "size": 473, "min_pixels": 2048, "exclude_novel": True},
        **{"model": model, "method": TITLES.get(model), "backbone": "resnet50", "encoder": "ResNet-50"},
        **{"run": f"{dataset}_split{fold}_resnet50", "weights": "ab" * 32, "list": f"{fold}" * 64, "list_images": 364},
        **{"list_source": "made from the masks", "episode_digests": ["cd" * 32], "manifest": MANIFEST, "processes": 1},
        "mean": {"final": dict(scores), "meta": {"miou": 55.0, "fb_iou": 75.0}},
        **{"precision": "float32", "batch": 8, "date": "2026-11-20T10:00:00+00:00", "minutes": 20.0},
        **{
            "environment": {},
            "track": {**BAMS_TRACK, "train_shot": changes.get("shot", 1)},
            "content": "ef" * 32,
            "code": {},
        },
        **{"parameters": 23_400_000, "learnt_parameters": 4_560_000, "cost": {}},
    }
    content |= changes
    content["config"] = {"data": {}, "model": {}, "run": {}, "test": {}, **changes.get("config", {})}
    if "per_seed" not in changes:  # as if each class had the score of the mean
        one = {o: {**scores, "per_class": {"1": scores["miou"]}} for o, scores in content["mean"].items()}
        content["per_seed"] = [one for _ in content["seeds"]]
    return check_result(content | over_seeds(content["per_seed"]), "drawn")


@pytest.fixture
def leave(tmp_path: Path):
    """Return a function that leaves a result folder behind, of all episodes alike, and gives its path."""

    def write(name: str, counted: list[dict] | None = None, label_side: int | None = None, **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        if counted:
            (folder / MANIFEST).write_text(Manifest({"label_side": label_side}, counted).text())
        write_json(folder / RESULT, result(**changes))
        return folder

    return write
