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
from typing import Any

import torch
from safetensors.torch import save

from model.encoders.layouts import encoder_part, recognise
from model.encoders.registry import build, downloadable, spec_of
from model.encoders.timm_facts import PREFIX, bare_name, unknown
from model.registry import published_layout
from util.checkpoints import checkpoint
from util.checkpoints.checkpoint import SAFETENSORS
from util.checkpoints.download import LITE0, PACKAGE, TIMM, checksum_of, download, licence_of, weights_url
from util.errors import UserError, nearest
from util.files import write_atomically
from util.prepare.download import fetch

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
    what, path, network = options.what, options.check, LITE0 if options.what == PACKAGE else options.what
    if what == PACKAGE and path is None:
        lines = lines_about(PACKAGE, download(PACKAGE, network), network)
    elif network in NETWORKS or network.startswith(PREFIX):
        if path is None and network.startswith(PREFIX):
            path = options.out / f"{bare_name(network)}{SAFETENSORS}"
            if not path.exists():
                state = download(TIMM, network)
                write_atomically(path, save({name: tensor.contiguous() for name, tensor in state.items()}))
        elif path is None:
            url = weights_url(network)
            path = options.out / url.rpartition("/")[2]
            done = "exists already" if path.exists() else "downloaded"
            fetch(url, path, f"sha256:{checksum_of(path.name)}")
            print(f"{path}: {done}, checksum correct")
        lines = lines_about(str(path), checkpoint.read(path), network)
    elif Path(what).exists():
        lines = lines_about(what, checkpoint.read(what))
    else:
        raise UserError(f"prepare.py weights {what}: neither a network nor a file{nearest(what, NETWORKS)}")
    print("\n".join(lines))
    return 0


def lines_about(source: str, content: dict[str, Any], network: str | None = None) -> list[str]:
    """Return what the weights of a ``source``, a file or ``PACKAGE``, are, and how they are used.

    UserError: values are not finite, or they hold no supported encoder, or another one than the ``network``.
    """
    state = checkpoint.weights_of(content)
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(f"{source}: tensor {name} has values that are not finite; restore the file")
    layout = published_layout(state)
    state = state if layout is None else layout.translate(state) or state
    config = content["config"] if checkpoint.is_own(content) else {}
    backbone = network or str(config.get("model", {}).get("encoder", {}).get("backbone"))
    found = recognise(state, backbone if backbone.startswith(PREFIX) and unknown(backbone) is None else None)
    if found is None:
        of = "no encoder of this project (docs/encoders.md)" + ("" if network is None else f", nor of {network}")
        fix = f"if it is of timm: prepare.py weights timm/<name> --check {source}"
        raise UserError(f"{source}: has the tensors of {of}; {fix}")
    backbone, stem, fit = found
    if network not in (None, backbone):
        raise UserError(f"{source}: holds a {backbone}, not a {network}")
    stages = " and ".join(map(str, fit.absent_stages))
    complete = f"all {len(fit.missing)} tensors of stage {stages} missing: needs model.encoder.partial: true"
    if fit.inside:
        complete = f"{len(fit.missing)} tensors missing, such as {fit.inside[0]} inside a stage: not usable"
    several = len(spec_of(backbone).stems) > 1
    encoder = f"{backbone}, {stem} stem" if several else backbone
    kinds = {str(t.dtype).removeprefix("torch.") for t in encoder_part(state).values() if t.is_floating_point()}
    line = f"{source}: {encoder}, {complete if fit.missing else 'complete'}, {' and '.join(sorted(kinds))}, all finite"
    test = f"to test it: sh test.sh <experiment> <data set> <GPUs> {source}"
    if config:
        data, model, run = (config.get(section, {}) for section in ("data", "model", "run"))
        start = f"to start the meta stage from it: run.base_folder: {Path(source).parent}"
        return [
            f"{line}; a checkpoint of this project: {content.get('stage')} stage of {run.get('name')} "
            f"({model.get('name')}, {data.get('name')} fold {data.get('fold')}, {data.get('shot')}-shot)",
            start if content.get("stage") == "base" else test,
        ]
    if layout is not None:
        return [f"{line}; the authors' {layout.title} checkpoint", test]
    kind = "encoder weights"
    if backbone.startswith(PREFIX):
        kind = f"licence of the weights: {licence_of(source, build(backbone))}"
    elif fit.others:
        kind = "a checkpoint of another network around such an encoder"
    if fit.inside:
        return [f"{line}; {kind}", "not usable: bring a file that is complete, or that ends with a whole stage"]
    settings = {"backbone": backbone, "stem": stem if several else "", "weights": source}
    settings["partial"] = "true" if fit.missing else ""
    use = "to use it, write in the config (or after --set, with = for the colon):"
    return [f"{line}; {kind}", use, *(f"  model.encoder.{key}: {value}" for key, value in settings.items() if value)]
