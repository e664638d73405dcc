"""Meta-train with every dropout off, so that one process and several draw nothing different; from random weights."""

import sys
from types import SimpleNamespace
from typing import Any

from torch import nn

from tests.model.small import without_dropout
from util.config.read import read_config
from util.run import build
from util.run.begin import Asked
from util.run.start import Start
from util.train import stages as training


def build_without_dropout(*settings: Any) -> nn.Module:
    """Return the model with all dropout probabilities 0."""
    model = build.build_model(*settings)
    without_dropout(model)
    return model


if __name__ == "__main__":
    training.build_model = build_without_dropout
    training.fill_at_start = lambda *_: Start()  # there is no base stage, which the rehearsal would miss
    training.rehearse = lambda *_: SimpleNamespace(check=lambda: None)
    sys.exit(training.train(read_config(sys.argv[1]), Asked(stage="meta")))
