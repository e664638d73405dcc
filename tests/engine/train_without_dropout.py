"""Meta-train with every dropout off, so that one process and several draw nothing different; from random weights."""

from __future__ import annotations

import sys

from torch import nn

from util.config.read import read_config
from util.engine import run_context as build
from util.engine import stages


def without_dropout(context: build.RunContext) -> nn.Module:
    """Return the model with all dropout probabilities 0."""
    model = build.new_model(context)
    for module in model.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
    return model


if __name__ == "__main__":
    stages.new_model = without_dropout
    stages.load_checkpoint = lambda *_: {}
    sys.exit(stages.train_meta(read_config(sys.argv[1]), resume=False, overwrite=False))
