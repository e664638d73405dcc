"""Meta-train with every dropout off, so that one process and several draw nothing different; from random weights."""

import sys
from pathlib import Path
from types import SimpleNamespace

from torch import nn

from tests.model.small import without_dropout
from util.config.read import read_config
from util.run import weights
from util.run.run import Run
from util.train import stages as training
from util.train.begin import Asked
from util.weights.checkpoint import Checkpoint


def build_without_dropout(run: Run, *_: object) -> tuple[nn.Module, str, Checkpoint]:
    """Return the model with all dropout probabilities 0, as if a base stage had filled nothing of it."""
    model = weights.build_model(run.config, run.text_width)
    without_dropout(model)
    return model, "", Checkpoint(Path("nothing"), {})


if __name__ == "__main__":
    training.init_network = build_without_dropout  # there is no base stage, which the rehearsal would miss
    training.rehearse = lambda *_: SimpleNamespace(check=lambda: None)
    sys.exit(training.train(read_config(sys.argv[1]), Asked(stage="meta")))
