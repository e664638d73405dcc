"""Imports of the process from which the tests fork scripts (see spawned.py); nothing is computed."""

import timm  # noqa: F401
import torch
import torchvision.models  # noqa: F401  # with torch's compiler, which takes longest

from model import registry

registry.models()
torch.set_num_threads(1)
