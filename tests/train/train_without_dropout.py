"""Meta-train with every dropout off, so that one process and several draw nothing different; from random weights."""

import sys

from torch import nn

from util.checkpoints import weights
from util.checkpoints.run import Run
from util.config.read import read_config
from util.train import stages as training


def without_dropout(run: Run, *_: object) -> tuple[nn.Module, str, list[None]]:
    """Return the model with all dropout probabilities 0."""
    model = weights.build_model(run.config, run.context.text_width)
    for module in model.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
    return model, "", []


if __name__ == "__main__":
    training.init_network = without_dropout  # there is no base stage
    sys.exit(training.train_meta(read_config(sys.argv[1]), resume=False, overwrite=False))
