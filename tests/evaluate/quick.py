"""Quick tests over the tiny data set: their settings, and the episodes of a result."""

import json
from collections.abc import Callable
from pathlib import Path

from util.config.read import read_config, to_dict
from util.config.settings import Config
from util.run.build import build_model
from util.run.run import Run
from util.weights import checkpoint

PROTOTYPE = "prototype"
SYMNET = "symnet"
QUICK = {"checkpoint": "none", "episodes": 7, "seeds": [0, 1], "batch": 1}
FEW = ("test.episodes=2", "test.seeds=[0]")  # where the scores do not matter


def quick_config(mini_yaml: Callable[..., Path], base: str = PROTOTYPE, *overrides: str) -> Config:
    """Return a config over the tiny data set, with overrides."""
    return read_config(mini_yaml(base, test=QUICK), list(overrides))


def lines(folder: Path) -> list[dict]:
    """Return the episodes of a result's folder with their counts, header left out."""
    return [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()[1:]]


def new_checkpoint(config: Config, path: Path) -> Path:
    """Write a checkpoint of a config as training writes it, with the weights that it would start from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    run = Run(config)
    network = build_model(run.config, run.text_width)
    content = {
        "stage": "meta",
        "config": to_dict(config),
        "text": run.text_digest,
        "weights": network.state_dict(),
    }
    checkpoint.save(path, content)
    return path
