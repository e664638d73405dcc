"""Download ImageNet weights from torchvision's addresses, or describe a weights file.

NET (resnet18, resnet34, resnet50, resnet101, vgg16) is downloaded into --out, resumable, and compared with the
checksum in its name as torchvision does. For a FILE the command prints backbone, stem, missing tensors, dtypes, and
whether it holds ImageNet weights, a checkpoint of this project or an authors' checkpoint. With both, FILE must be of
NET.

``timm/<name>`` is downloaded by timm and stored as a .safetensors file; with --check, FILE must be of that network.
``package`` is the installed package with the ImageNet weights of EfficientNet-Lite0.

--small OUT.safetensors writes a checkpoint of this project in half precision, without the state of its training.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from model.encoders.encoder import Encoder
from model.encoders.layouts import load_encoder
from model.encoders.registry import downloadable, problem_of, spec_of
from model.encoders.settings import BareEncoderSettings, build_encoder
from model.encoders.timm_facts import PREFIX, bare_name
from model.encoders.weights import (
    LITE0,
    PACKAGE,
    TIMM,
    checksum_of,
    download,
    licence_of,
    package_file,
    weights_url,
)
from model.mismatch import Mismatch
from util.checkpoints import checkpoint
from util.checkpoints.checkpoint import ENDINGS, SAFETENSORS
from util.errors import UserError, nearest
from util.files import write_atomically
from util.prepare.download import CHUNK, fetch
from util.prepare.weight_facts import OURS, PUBLISHED, WeightFacts, describe_weights_file

NETWORKS = downloadable()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument(
        "what", nargs="?", metavar="NET|FILE", help=f"{', '.join(NETWORKS)}, timm/<name>, package; or a file"
    )
    parser.add_argument("--out", type=Path, default=Path("initmodel"), help="download folder (default initmodel)")
    parser.add_argument(
        "--small",
        type=Path,
        metavar="OUT.safetensors",
        help="write the checkpoint FILE in half precision, to be passed on",
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
    if options.small is not None:
        write_small(Path(network or ""), options.small)
        print(f"{options.small}: {options.small.stat().st_size / 1e6:.2f} MB")
        return 0
    if serves(network):
        print("\n".join(describe_or_fetch(str(network), path, options.out)))
        return 0
    if network is not None and network not in NETWORKS:
        if path is not None or not (Path(network).exists() or network.endswith(ENDINGS) or "/" in network):
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


def write_small(path: Path, out: Path) -> None:
    """Write a checkpoint of this project in half precision.

    Raises:
        UserError: it cannot be read or is none of this project, or the file exists, has another ending or cannot be
            written.
    """
    content = checkpoint.read(path)
    if not checkpoint.is_own(content):
        raise UserError(f"{path}: no checkpoint of this project; name one before --small")
    if out.exists() or out.suffix != SAFETENSORS:
        raise UserError(f"--small {out}: exists already, or does not end in {SAFETENSORS}; name another file")
    checkpoint.save_small(out, content)


def advice(facts: WeightFacts) -> list[str]:
    """Return how to use a file: the settings for the config, and the file that the published setting uses instead."""
    if facts.stage == "base":
        return [f"to start the meta stage from it: run.base_folder: {facts.path.parent}"]
    if facts.kind in (OURS, PUBLISHED):
        return [f"to test it: sh test.sh <experiment> <data set> <GPUs> {facts.path}"]
    if facts.inside:
        return ["not usable: bring a file that is complete, or that ends with a whole stage"]
    spec = spec_of(facts.backbone)
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


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


# --- packages of weights ---------------------------------------------------------------------------------------------


def serves(network: str | None) -> bool:
    """Return whether a name is of this module: ``timm/<name>`` or ``package``."""
    return network == PACKAGE or (network is not None and network.startswith(PREFIX))


def describe_or_fetch(network: str, file: Path | None, out: Path) -> list[str]:
    """Return lines about the weights of a network: of a given file, of the package, or downloaded into ``out``.

    Raises:
        UserError: timm knows no such network, the download failed, or the file is of another network.
    """
    backbone = LITE0 if network == PACKAGE else network
    problem = problem_of(backbone, (), one_grid=False)
    if problem is not None:
        raise UserError(f"prepare.py weights {network}: {problem}")
    if file is not None:
        return _about(str(file), backbone, checkpoint.weights_of(checkpoint.read(file)))
    if network == PACKAGE:
        return _about(PACKAGE, backbone, _download(PACKAGE, backbone), str(package_file()))
    target = out / f"{bare_name(backbone)}.safetensors"
    if not target.exists():
        state = _download(TIMM, backbone)
        write_atomically(target, save({name: tensor.contiguous() for name, tensor in state.items()}))
    return _about(str(target), backbone, checkpoint.weights_of(checkpoint.read(target)))


def _download(source: str, backbone: str) -> dict[str, Tensor]:
    try:
        return download(source, backbone)
    except Mismatch as error:
        raise UserError(str(error)) from None


def _about(source: str, backbone: str, state: dict[str, Tensor], place: str | None = None) -> list[str]:
    """Return what a state dict is, its licence, and the settings that use it."""
    encoder: Encoder = build_encoder(BareEncoderSettings(backbone=backbone))
    try:
        missing = load_encoder(encoder, state, partial=True)
    except Mismatch as error:
        raise UserError(f"{place or source}: {error}") from None
    complete = f"{len(missing)} tensors missing, such as {missing[0]}" if missing else "complete"
    licence = licence_of(source, encoder)
    return [
        f"{place or source}: {backbone}, {complete}, licence of the weights: {licence}",
        "to use it, write in the config (or after --set, with = for the colon):",
        f"  model.encoder.backbone: {backbone}",
        f"  model.encoder.weights: {source}",
        *(["  model.encoder.partial: true"] if missing else []),
    ]
