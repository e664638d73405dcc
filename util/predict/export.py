"""The path of a query, supports and all, as one TorchScript file that needs torch and nothing of this project.

Traced, because the supports are fixed: what depends on them alone, such as how many positions their objects have, is
then a constant. Input: ``(1, 3, S, S)`` float32, RGB in 0..255, the photo's longer side resized to S (both sides
rounded down to whole multiples of 8, bilinear), at the top left, the rest 0. Output: ``(1, n + 1, S, S)`` float32
probabilities, background first; cut the padding off and resize to the photo.
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
from util.predict.command import facts_of, segmenter_of
from util.predict.segmenter import Segmenter

FACTS = "facts.json"  # the file within the file that tells side, classes and where they come from
CPU, FLOAT32 = "cpu", "float32"
CLOSE = 1e-4  # largest difference of a probability between the file and the network


class QueryPath(nn.Module):
    """A segmenter's probabilities for one query."""

    def __init__(self, segmenter: Segmenter):
        super().__init__()
        self.segmenter = segmenter
        self.network = segmenter.model.network

    def forward(self, query: Tensor) -> Tensor:
        """Return (1, n + 1, S, S), background first, of (1, 3, S, S)."""
        margins = self.segmenter.margins(query)
        return torch.cat([torch.zeros_like(margins[:, :1]), margins], dim=1).softmax(1)


def export(options: argparse.Namespace) -> None:
    """Write the file that a command line asks for, after it has given the network's probabilities for a drawn query.

    Raises:
        UserError: the command line, a file or the disk; or a file that does not give the network's probabilities.
    """
    if options.out.is_dir():
        raise UserError(f"--out {options.out}: is a folder; name a file, such as {options.out}/model.pt")
    if options.out.exists() and not options.overwrite:
        raise UserError(f"{options.out}: a file is there already; name another --out, or add --overwrite")
    if options.device not in (None, CPU):
        raise UserError(
            f"--device {options.device}: an export is made on the cpu; move the loaded file where you need it"
        )
    options = argparse.Namespace(**{**vars(options), "device": CPU})
    options.overrides = [*options.overrides, f"run.precision={FLOAT32}"]
    segmenter = segmenter_of(options)
    for note in segmenter.notes:
        print(note)
    difference = write_export(segmenter, options.out)
    print(f"{options.out}: differs by {difference:.1e} from the network at most, on a query of noise")


def write_export(segmenter: Segmenter, path: Path) -> float:
    """Write a segmenter's query path; return the largest difference of a probability on a query of noise.

    Raises:
        UserError: the disk is full, or the file does not give the network's probabilities.
    """
    side = segmenter.model.view.side
    network = QueryPath(segmenter).eval()
    example, other = (255 * torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    facts = {
        **facts_of(segmenter),
        "side": side,
        "multiple": BLOCK,
        "channels": ["background", *(c.name for c in segmenter.classes)],
    }
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that what depends on the supports becomes a constant is the purpose
        traced = torch.jit.freeze(torch.jit.trace(network, example, check_trace=False))
        difference = float((traced(other) - network(other)).abs().max())
    if difference > CLOSE:
        raise UserError(f"{path}: not written: it would differ from the network by {difference:.1e}")

    def save(target: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises torch.export, which takes no counts that depend on tensors
            torch.jit.save(traced, str(target), _extra_files={FACTS: json.dumps(facts)})

    write_atomically(path, save)
    return difference
