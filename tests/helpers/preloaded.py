"""Imports of the process from which the tests fork scripts (see spawned.py); nothing is computed."""

import gc

import matplotlib.figure  # noqa: F401  # of charts
import torch
import torchvision.models  # noqa: F401  # with torch's compiler, which takes longest

import predict  # noqa: F401
import prepare  # noqa: F401
import test  # noqa: F401
import train  # noqa: F401
from model import registry
from tests.helpers import narrow  # noqa: F401
from util import cli  # noqa: F401
from util.files import pages  # noqa: F401

registry.methods()
torch.set_num_threads(1)
gc.freeze()  # what is imported stays: a fork need not read it, nor copy its pages
