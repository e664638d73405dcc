"""Fetch ImageNet weights through torchvision's addresses and check them, or look into a file you bring.

NET (resnet18, resnet34, resnet50, resnet101, vgg16) is downloaded into --out, resumable, and compared with the
checksum in its name as torchvision does. A FILE is told apart: backbone, stem, what is missing, kinds of numbers, and
whether it is ImageNet weights, a checkpoint of this project or an authors' one. With both, FILE must be of NET.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model.common import published
from model.encoders.layouts import describe, encoder_part, is_encoder_tensor, recognise
from model.encoders.registry import ENCODERS, downloadable
from model.encoders.weights import weights_url
from model.registry import published_layouts
from util.engine import checkpoint
from util.errors import UserError, nearest
from util.prepare.download import CHUNK, fetch

NETWORKS = downloadable()
CHECKSUM = re.compile(r"-([0-9a-f]{8,64})\.pth$")  # in torchvision's file names: how the file's SHA-256 begins
IMAGENET, OURS = "encoder weights", "a checkpoint of this project"
PUBLISHED, OTHER = "an authors' checkpoint", "a checkpoint of another network around such an encoder"


@dataclass
class WeightFacts:
    """What a weights file is."""

    path: Path
    kind: str  # IMAGENET, OURS, PUBLISHED or OTHER
    stage: str | None  # of OURS: "base" or "meta"
    origin: str | None  # of OURS: stage, config, data set and fold; of PUBLISHED: method and network; in words
    backbone: str
    stem: str  # "plain" or "deep"; VGG and Swin have no other than "plain"
    tensors: int  # in the file, of whatever kind
    numbers: dict[str, int]  # tensors of the encoder by kind of numbers, such as {"float32": 320}
    missing: list[str]  # tensors of the encoder, under our names, that the file lacks
    absent_stages: list[int]  # stages of which the file has nothing: partial: true accepts it
    inside: list[str]  # missing tensors of the other stages: no run accepts it

    @property
    def complete(self) -> bool:
        """Tell whether nothing of the encoder is missing."""
        return not self.missing

    def line(self) -> str:
        """Return the facts in one line, without the path."""
        lacks = "complete"
        if self.inside:
            lacks = f"{len(self.missing)} tensors missing, such as {self.inside[0]} inside a stage: not usable"
        elif self.missing:
            stages = " and ".join(map(str, self.absent_stages))
            lacks = f"all {len(self.missing)} tensors of stage {stages} missing: needs model.encoder.partial: true"
        stem = "" if len(ENCODERS[self.backbone].stems) == 1 else f", {self.stem} stem"
        numbers = " and ".join(sorted(self.numbers))
        return f"{self.backbone}{stem}, {lacks}, {numbers}, all finite; {self.origin or self.kind}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("what", nargs="?", metavar="NET|FILE", help=f"{', '.join(NETWORKS)}; or a file to look into")
    parser.add_argument("--out", type=Path, default=Path("initmodel"), help="folder to fetch into (default initmodel)")
    parser.add_argument("--check", type=Path, metavar="FILE", help="look into this file, which must be of NET")


def run(options: argparse.Namespace) -> int:
    """Fetch a network's weights, or say that they are there; or tell what a file is.

    Raises:
        UserError: no network, a wrong checksum, a damaged file, values that are not finite, or an unknown layout.
    """
    network, path = options.what, options.check
    if network not in NETWORKS and path is None and network is not None and _is_path(network):
        network, path = None, Path(network)
    if network is None and path is None:
        raise UserError(f"prepare.py weights: name a network ({', '.join(NETWORKS)}) or a file")
    if network is not None and network not in NETWORKS:
        raise UserError(f"prepare.py weights {network}: neither a network nor a file{nearest(network, NETWORKS)}")
    fetching = path is None
    if fetching:
        path = fetch_weights(network, options.out)
    facts = describe_weights_file(path)
    if network not in (None, facts.backbone):
        raise UserError(f"{path}: holds a {facts.backbone}, not a {network}")
    print(f"{path}: {facts.line()}")
    for line in advice(facts):
        print(line)
    return 0


def describe_weights_file(path: str | Path) -> WeightFacts:
    """Return what a weights file is: ImageNet weights, a checkpoint of ours or an authors' one.

    Raises:
        UserError: missing, damaged or unsafe file, values that are not finite, or no encoder that is known here.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: this weights file does not exist; put it there, or name another")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of pickles before it refuses them
        content = checkpoint.read(path)
    state = checkpoint.weights_of(content)
    tensors = len(state)
    for name, tensor in state.items():
        if tensor.is_meta or (tensor.is_floating_point() and not torch.isfinite(tensor).all()):
            raise UserError(f"{path}: tensor {name} holds no values or some that are not finite; bring the file again")
    whose = published.recognise(state, published_layouts())
    state = published.translate(state, published_layouts())
    found = recognise(state)
    if found is None:
        raise UserError(
            f"{path}: holds {describe(state)}, which is not laid out as any encoder of this project is "
            "(ResNets with a plain or deep stem, VGG-16 with batch norm, Swin-B)"
        )
    kind, stage, origin = IMAGENET, None, None
    if content.get("format") == checkpoint.FORMAT:
        kind, stage, origin = OURS, content.get("stage"), _origin(content)
    elif whose is not None:
        kind, origin = PUBLISHED, f"the authors' {whose} checkpoint"
    elif any(not is_encoder_tensor(name) for name in state):
        kind = OTHER
    numbers = Counter(
        str(t.dtype).removeprefix("torch.") for t in encoder_part(state).values() if t.is_floating_point()
    )
    return WeightFacts(
        path,
        kind,
        stage,
        origin,
        found.backbone,
        found.stem,
        tensors,
        dict(numbers),
        found.missing,
        found.absent_stages,
        found.inside,
    )


def fetch_weights(network: str, out: Path) -> Path:
    """Return the file of a network's ImageNet weights after fetching it into ``out``, under torchvision's name.

    Raises:
        UserError: no network (names the URL and where to put the file), the connection broke (the same call
            continues), a wrong checksum, or the folder cannot be written.
    """
    url = weights_url(network)
    target = out / url.rpartition("/")[2]
    there = target.exists()
    fetch(url, target)
    begin = CHECKSUM.search(target.name)[1]
    if not _sha256(target).startswith(begin):
        if not there:
            target.unlink()
        removed = "remove it" if there else "it was removed"
        raise UserError(
            f"{target}: its SHA-256 does not begin with {begin}, as that of {url}; {removed}, fetch it again"
        )
    print(f"{target}: {'is there already' if there else 'fetched'}, checksum right")
    return target


def advice(facts: WeightFacts) -> list[str]:
    """Return how to use a file: the settings to write, and which file the published setting takes instead."""
    if facts.stage == "base":
        return [f"the meta stage starts from it with: run.base_folder: {facts.path.parent}"]
    if facts.kind in (OURS, PUBLISHED):
        return [f"to test it: sh test.sh <experiment> <data set> <GPUs> {facts.path}"]
    if facts.inside:
        return ["not usable: bring a file that is complete, or that ends with a whole stage"]
    spec = ENCODERS[facts.backbone]
    lines = [f"model.encoder.backbone: {facts.backbone}"] if spec.published_file is None else []
    lines += [f"model.encoder.stem: {facts.stem}"] if len(spec.stems) > 1 else []
    lines += [f"model.encoder.weights: {facts.path}"]
    lines += ["model.encoder.partial: true"] if facts.missing else []
    lines = ["to use it, write in the config (or after --set, with = for the colon):", *("  " + line for line in lines)]
    if spec.published_file and facts.stem == "plain":
        lines.append(
            f"the published setting has the deep stem, initmodel/{spec.published_file}, which torchvision does not "
            "offer: see initmodel/README.md"
        )
    return lines


def _origin(content: dict[str, Any]) -> str:
    """Return in words which run a checkpoint of ours is of."""
    config = content.get("config") or {}
    data, model, name = (config.get(s) or {} for s in ("data", "model", "run"))
    return (
        f"{OURS}: {content.get('stage')} stage of {name.get('name')} "
        f"({model.get('name')}, {data.get('name')} fold {data.get('fold')}, {data.get('shot')}-shot)"
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _is_path(text: str) -> bool:
    return Path(text).exists() or Path(text).suffix in (".pth", ".pt") or "/" in text
