"""Export network and supports as one TorchScript file that runs with torch alone, without this project.

The network is traced: supports are fixed, so values that depend on them alone, such as the number of positions inside
their objects, become constants. Input: ``(1, 3, S, S)`` float32, RGB in 0..255; the photo's longer side is resized to S
(both sides rounded down to whole multiples of 8, bilinear) and lies at the top left, the rest is 0. Output:
``(1, n + 1, S, S)`` float32 probabilities, background first; crop the padding and resize to the photo.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from util.data.warp import BLOCK
from util.errors import UserError
from util.files import write_atomically
from util.predict.options import segmenter_of
from util.predict.results import facts_of
from util.predict.segmenter import Segmenter

FACTS = "facts.json"  # file inside the exported file, with input side, classes and their sources
CPU, FLOAT32 = "cpu", "float32"
MAX_DIFFERENCE = 1e-4  # of a probability, between the exported file and the network


class QueryNetwork(nn.Module):
    """The probabilities of a segmenter for one query, as a module that can be traced."""

    def __init__(self, segmenter: Segmenter):
        super().__init__()
        self.segmenter = segmenter
        self.network = segmenter.model.network

    def forward(self, query: Tensor) -> Tensor:
        """Return probabilities (1, n + 1, S, S), background first, for a query (1, 3, S, S)."""
        margins = self.segmenter.margins(query)
        return torch.cat([torch.zeros_like(margins[:, :1]), margins], dim=1).softmax(1)


def export(options: argparse.Namespace) -> int:
    """Write the file that a command line describes, after a comparison with the network, and return the exit code 0.

    Raises:
        UserError: the command line, a file or the disk; or the file's probabilities differ from the network's.
    """
    if options.out.is_dir():
        raise UserError(f"--out {options.out}: is a folder; name a file, such as {options.out}/model.pt")
    if options.out.exists() and not options.overwrite:
        raise UserError(f"{options.out}: this file exists already; name another --out, or add --overwrite")
    if options.device not in (None, CPU):
        raise UserError(
            f"--device {options.device}: exports are made on the cpu; move the loaded file to the device you need"
        )
    overrides = [*options.overrides, f"run.precision={FLOAT32}"]
    segmenter = segmenter_of(argparse.Namespace(**{**vars(options), "device": CPU, "overrides": overrides}))
    network = segmenter.model.network
    if not network.traceable:
        raise UserError(
            f"export: {network.title} cannot be exported: its steps depend on the data, not on shapes alone"
        )
    for note in segmenter.notes:
        print(note)
    difference = write_export(segmenter, options.out)
    print(f"{options.out}: differs from the network by {difference:.1e} at most, on a query of noise")
    return 0


def write_export(segmenter: Segmenter, path: Path) -> float:
    """Write a segmenter's file; return the largest difference of a probability, on a query of noise.

    Raises:
        UserError: the disk is full, or the file's probabilities differ from the network's.
    """
    side = segmenter.model.view.side
    network = QueryNetwork(segmenter).eval()
    example, other = (255 * torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about values that become constants, which is intended for supports
        traced = torch.jit.freeze(torch.jit.trace(network, example, check_trace=False))
        difference = float((traced(other) - network(other)).abs().max())
    if difference > MAX_DIFFERENCE:
        raise UserError(f"{path}: not written: it would differ from the network by {difference:.1e}")
    facts = {
        **facts_of(segmenter),
        "side": side,
        "multiple": BLOCK,
        "channels": ["background", *(known.name for known in segmenter.classes)],
    }

    def save(target: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advises torch.export, which cannot trace counts that depend on tensors
            torch.jit.save(traced, str(target), _extra_files={FACTS: json.dumps(facts)})

    write_atomically(path, save)
    return difference
