"""Download ImageNet weights from torchvision's addresses, or describe a weights file.

NET (resnet18, resnet34, resnet50, resnet101, vgg16) is downloaded into --out, resumable, and compared with the
checksum in its name as torchvision does. For a FILE the command prints backbone, stem, missing tensors, dtypes, and
whether it holds ImageNet weights, a checkpoint of this project or an authors' checkpoint. With both, FILE must be of
NET.

``timm/<name>`` is downloaded by timm and stored as a .safetensors file; with --check, FILE must be of that network.
``package`` is the installed package with the ImageNet weights of EfficientNet-Lite0.

--whole OUT writes a checkpoint of this project, with the weights that lie beside it, as one file that can be moved;
--small OUT does so in half precision and without the weights of the installed package. OUT.xz is compressed.
"""

from __future__ import annotations

import argparse
import hashlib
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model.common import published
from model.encoders.layouts import describe, encoder_part, is_encoder_tensor, recognise
from model.encoders.registry import ENCODERS, downloadable
from model.encoders.weights import checksum_of, weights_url
from model.registry import published_layouts
from util.engine import checkpoint
from util.engine.checkpoint_form import ENDINGS, LEFT_OUT
from util.engine.frozen_files import WHOLE
from util.engine.small_checkpoint import write_small
from util.errors import UserError, nearest
from util.prepare import timm_weights
from util.prepare.download import CHUNK, fetch

NETWORKS = downloadable()
MEGABYTE = 10**6
IMAGENET, OURS = "encoder weights", "a checkpoint of this project"
WHOLE_EXAMPLE = WHOLE.format(path="runs/NAME/meta/best.pth")
PUBLISHED, OTHER = "an authors' checkpoint", "a checkpoint of another network around such an encoder"


@dataclass
class WeightFacts:
    """Description of a weights file."""

    path: Path
    kind: str  # IMAGENET, OURS, PUBLISHED or OTHER
    stage: str | None  # of OURS: "base" or "meta"
    origin: str | None  # of OURS: stage, config, data set and fold; of PUBLISHED: method and network; in words
    backbone: str
    stem: str  # "plain" or "deep"; VGG and Swin have only "plain"
    tensors: int  # number of all tensors in the file
    numbers: dict[str, int]  # number of the encoder's tensors by dtype, such as {"float32": 320}
    missing: list[str]  # missing tensors of the encoder, under our names
    absent_stages: list[int]  # stages without any tensor; accepted with partial: true
    inside: list[str]  # missing tensors of the other stages; no run accepts such a file

    @property
    def complete(self) -> bool:
        """Whether no tensor of the encoder is missing."""
        return not self.missing

    def line(self) -> str:
        """Return the facts in one line, without the path."""
        completeness = "complete"
        if self.inside:
            completeness = f"{len(self.missing)} tensors missing, such as {self.inside[0]} inside a stage: not usable"
        elif self.missing:
            stages = " and ".join(map(str, self.absent_stages))
            completeness = (
                f"all {len(self.missing)} tensors of stage {stages} missing: needs model.encoder.partial: true"
            )
        stem = "" if len(ENCODERS[self.backbone].stems) == 1 else f", {self.stem} stem"
        numbers = " and ".join(sorted(self.numbers))
        return f"{self.backbone}{stem}, {completeness}, {numbers}, all finite; {self.origin or self.kind}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument(
        "what", nargs="?", metavar="NET|FILE", help=f"{', '.join(NETWORKS)}, timm/<name>, package; or a file"
    )
    parser.add_argument("--out", type=Path, default=Path("initmodel"), help="download folder (default initmodel)")
    one = parser.add_mutually_exclusive_group()
    one.add_argument(
        "--whole", type=Path, metavar="OUT", help="write the checkpoint FILE as one file that can be moved"
    )
    one.add_argument(
        "--small",
        type=Path,
        metavar="OUT",
        help="the same in half precision, without the weights of the installed package; best with the ending .pth.xz",
    )
    parser.add_argument("--check", type=Path, metavar="FILE", help="describe this file, which must be of NET")


def run(options: argparse.Namespace) -> int:
    """Download a network's weights unless they exist already, or describe a file.

    Raises:
        UserError: no connection, a wrong checksum, a damaged file, values that are not finite, or an unknown layout.
    """
    network: str | None = options.what
    path: Path | None = options.check
    if network is None and path is None:
        raise UserError(f"prepare.py weights: name a network ({', '.join(NETWORKS)}) or a file")
    for option, out, write in (("--whole", options.whole, write_whole), ("--small", options.small, write_small)):
        if out is not None:
            if network is None or not Path(network).is_file():
                raise UserError(f"{option} {out}: name the checkpoint's file before it, as in {WHOLE_EXAMPLE}")
            write(Path(network), out)
            print(f"{out}: {out.stat().st_size / MEGABYTE:.2f} MB, can be moved")
            return 0
    if timm_weights.serves(network):
        print("\n".join(timm_weights.describe_or_fetch(str(network), path, options.out)))
        return 0
    if network is not None and network not in NETWORKS:
        if path is not None or not _is_path(network):
            raise UserError(f"prepare.py weights {network}: neither a network nor a file{nearest(network, NETWORKS)}")
        path, network = Path(network), None
    if path is None:
        assert network is not None
        path = fetch_weights(network, options.out)
    facts = describe_weights_file(path)
    if network not in (None, facts.backbone):
        raise UserError(f"{path}: holds a {facts.backbone}, not a {network}")
    print(f"{path}: {facts.line()}")
    for line in advice(facts):
        print(line)
    return 0


def describe_weights_file(path: str | Path) -> WeightFacts:
    """Return the description of a weights file: ImageNet weights, a checkpoint of ours or of the authors.

    Raises:
        UserError: the file is missing, damaged or unsafe, has values that are not finite, or holds no supported
            encoder.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: this weights file does not exist; put it there, or name another")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about pickles before it refuses them
        content = checkpoint.read(path)
    state = checkpoint.weights_of(content)
    tensors = len(state)
    for name, tensor in state.items():
        plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_nested
        if not plain or (tensor.is_floating_point() and not torch.isfinite(tensor).all()):
            raise UserError(
                f"{path}: tensor {name} is of no plain kind or has values that are not finite; restore the file"
            )
    whose = published.recognise(state, published_layouts())
    state = published.translate(state, published_layouts())
    found = recognise(state)
    if found is None:
        raise UserError(
            f"{path}: holds {describe(state)}, which has the layout of no encoder of this project "
            "(ResNets with a plain or deep stem, VGG-16 with batch norm, Swin-B); if it is of a network of timm, "
            f"name it: prepare.py weights timm/<name> --check {path}"
        )
    kind, stage, origin = IMAGENET, None, None
    if checkpoint.is_own(content):
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
    """Return the file of a network's ImageNet weights after downloading it into ``out``, under torchvision's name.

    Raises:
        UserError: no connection (the message has the URL and the target), the connection broke (the same call
            continues), a wrong checksum, or the folder cannot be written.
    """
    url = weights_url(network)
    target = out / url.rpartition("/")[2]
    existed = target.exists()
    fetch(url, target)
    checksum = checksum_of(target.name)
    if checksum is None:
        raise UserError(f"{url}: has no checksum in its name; name a file: prepare.py weights {network} --check FILE")
    if not _sha256(target).startswith(checksum):
        if not existed:
            target.unlink()
        removed = "remove it" if existed else "it was removed"
        raise UserError(
            f"{target}: its SHA-256 does not begin with {checksum}, unlike that of {url}; "
            f"{removed}, then download it again"
        )
    print(f"{target}: {'exists already' if existed else 'downloaded'}, checksum correct")
    return target


def write_whole(path: Path, out: Path) -> None:
    """Write a checkpoint of this project to one file, without what only its training needs.

    Raises:
        UserError: it cannot be read or is none of this project, or the file exists or cannot be written.
    """
    content = checkpoint.read(path)
    if not checkpoint.is_own(content):
        raise UserError(f"{path}: no checkpoint of this project, so that nothing of it lies beside it; copy the file")
    if LEFT_OUT in content:
        raise UserError(f"{path}: is a small checkpoint, which is one file already; copy it")
    if out.exists():
        raise UserError(f"{out}: this file exists already; name another for --whole")
    checkpoint.save(out, {key: value for key, value in content.items() if key not in checkpoint.OF_TRAINING})


def advice(facts: WeightFacts) -> list[str]:
    """Return how to use a file: the settings for the config, and the file that the published setting uses instead."""
    if facts.stage == "base":
        return [f"to start the meta stage from it: run.base_folder: {facts.path.parent}"]
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
    """Return the run of a checkpoint of ours in words."""
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
    return Path(text).exists() or text.endswith(ENDINGS) or "/" in text
