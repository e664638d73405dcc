"""Imports of the process from which the tests fork scripts (see spawned.py); nothing is computed."""

import torch
import torchvision.models  # noqa: F401  # with torch's compiler, which takes longest

import util.engine.launch
import util.engine.testing
import util.engine.training
import util.predict.command
import util.prepare.check  # noqa: F401
from model import registry

registry.models()
torch.set_num_threads(1)
