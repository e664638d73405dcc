"""Export a network as two files that run without this project, and a JSON file that describes them.

``supports`` turns the supports of every class into a state of fixed size; ``query`` turns queries and that state into
probabilities, with fixed sizes; docs/predict.md says how images are made.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from model.common.fixed_shapes import fixed_shapes
from util.checkpoints.weights import encoder_licence
from util.cli import Parser, within
from util.data.images.views import BLOCK
from util.errors import UserError
from util.export.graphs import Query, Supports, onnx, pt2, run_onnx, run_pt2, traced, with_background
from util.files import write_atomically
from util.predict.options import add_model_and_supports, segmenter_of
from util.predict.results import facts_of
from util.predict.segmenter import Segmenter
from util.predict.supports import Support
from util.prepare.staging import alone, made_aside

FACTS = "export.json"
PARTS = ("supports", "query")  # names of the files
FORMATS = {"pt2": (pt2, run_pt2), "onnx": (onnx, run_onnx)}
MAX_DIFFERENCE = 1e-4  # of a probability, between the exported files and the network


def export(arguments: list[str]) -> int:
    """Write the folder that a command line describes, and return the exit code 0.

    Raises:
        UserError: the command line, a file or the disk; the model cannot be exported in this format; or the files'
            probabilities differ from the network's.
    """
    parser = Parser(
        prog="predict.py export",
        description="Export the network as two files of graphs, of the supports and of the query.",
    )
    add_model_and_supports(parser)
    add, default = parser.add_argument, next(iter(FORMATS))
    add("--out", type=Path, required=True, help="folder to write")
    add("--format", choices=FORMATS, default=default, help=f"default {default}")
    shots = "supports of a class; default the number given, else as trained, else 1"
    add("--shots", type=within(int, 1), metavar="K", help=shots)
    add("--overwrite", action="store_true", help="overwrite an earlier export in this folder")
    parser.set_defaults(tile=None, min_score=None, threshold=None, min_pixels=0, adapt=False)  # not to be exported
    parser.set_defaults(serve=False, host=None, port=None)
    options = parser.parse_args(arguments)
    packages = ("onnx", "onnxscript", "onnxruntime") if options.format == "onnx" else ()
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise UserError(f"--format onnx: {missing[0]} is not installed; pip install -r requirements-export.txt")
    if options.out.exists() and any(options.out.iterdir()) and not options.overwrite:
        raise UserError(f"--out {options.out}: this folder is not empty; name another, or add --overwrite")
    options.device = "cpu"
    options.overrides.append("run.precision=float32")
    segmenter = segmenter_of(options)
    for note in segmenter.notes:
        print(note)
    difference = write_export(segmenter, options.out, options.format, options.shots)
    print(f"{options.out}: differs from the network by {difference:.1e} at most, of {MAX_DIFFERENCE:.0e} allowed")
    return 0


def write_export(segmenter: Segmenter, out: Path, name: str, shots: int | None = None) -> float:
    """Write a segmenter's folder; return the largest difference of a probability on its supports, else on noise.

    Args:
        segmenter: on the CPU, in float32.
        name: of the format.
        shots: K where there are no supports; None for the number as trained, else 1.

    Raises:
        UserError: the model cannot be exported, the disk is full, or the files' probabilities differ from the
            network's.
    """
    network = segmenter.model.network
    if network.cannot_export is not None:
        raise UserError(f"{network.title}: cannot be exported: {network.cannot_export}")
    if not segmenter.classes:
        segmenter = segmenter.without_classes()
        segmenter.add(None, _noise(segmenter.model.view.side, shots or network.shots_of(network.state_dict()) or 1))
    counts = {len(known.sources) for known in segmenter.classes} | ({shots} if shots else set())
    if len(counts) > 1:
        raise UserError(f"--support, --shots: an export has one number of supports for all classes, not {counts}")
    given = _inputs(segmenter)
    query = given["images"][0, :1].roll(segmenter.model.view.side // 3, -1)  # (1, 3, S, S)
    expected = with_background(segmenter.margins(query))
    # The trace sees other images than the check, which would notice a value that became a constant.
    others = {**given, "images": given["images"].flip(-1), "labels": given["labels"].flip(-1)}
    with alone(out), made_aside(out, FACTS) as folder:
        files = {part: folder / f"{part}.{name}" for part in PARTS}
        try:
            with (  # without the exporters' progress and advice
                warnings.catch_warnings(),
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
                torch.no_grad(),
                sdpa_kernel(SDPBackend.MATH),
                fixed_shapes(),
            ):
                warnings.simplefilter("ignore")
                supports = Supports(segmenter, given["images"].shape[1])
                example = supports.kept(**others)
                state = {f"state_{i}": x for i, x in enumerate(pytree.tree_leaves(example))}
                tensors = (others, state), ({"query": query.flip(-1), **state}, {"probabilities": expected})
                modules = supports, Query(supports, segmenter, example)
                for path, module, (inputs, outputs) in zip(files.values(), modules, tensors, strict=True):
                    program = traced(module, [*inputs.values()])
                    write_atomically(path, FORMATS[name][0](program, [*inputs], [*outputs]))
        except UserError:
            raise
        except Exception as error:  # the exporters raise many kinds
            said = str(error.__cause__ or error).strip()  # the cause says more
            reason = next(iter(said.splitlines()), type(error).__name__)
            raise UserError(
                f"{network.title}: torch {torch.__version__} cannot export this network as {name} ({reason}); try "
                "another --format or a newer torch"
            ) from None
        to_state, to_probabilities = (FORMATS[name][1](path) for path in files.values())
        found = to_probabilities(query, *to_state(*given.values()))
        difference = ((found if isinstance(found, Tensor) else found[0]) - expected).abs().max().item()
        if not difference <= MAX_DIFFERENCE:  # also where it is not a number
            raise UserError(
                f"--out {out}: removed, because its probabilities differ from the network's by {difference:.1e}, "
                f"{MAX_DIFFERENCE:.0e} is allowed; try another --format"
            )
        facts = {"format": name, "files": {part: path.name for part, path in files.items()}, **_facts(segmenter, given)}
        for part, (inputs, outputs) in zip(PARTS, tensors, strict=True):
            facts[part] = {"inputs": _described(inputs), "outputs": _described(outputs)}
        write_atomically(folder / FACTS, json.dumps({**facts, "difference": difference}, indent=1, ensure_ascii=False))
    return difference


def _noise(side: int, shots: int) -> list[Support]:
    """Return supports of noise with a rectangle each, which stand for supports of any class."""
    random, label = np.random.default_rng(0), np.zeros((side, side), np.uint8)
    label[side // 4 : -(side // 4), side // 3 : -(side // 4)] = 1
    return [Support(random.integers(0, 256, (side, side, 3), np.uint8), label, "noise") for _ in range(shots)]


def _inputs(segmenter: Segmenter) -> dict[str, Tensor]:
    """Return the supports by name: images (n, K, 3, S, S), labels (n, K, S, S) and, for some models, text (n, T)."""
    images, labels = (torch.cat([getattr(c, kind) for c in segmenter.classes]) for kind in ("images", "labels"))
    out = {"images": images.clone(), "labels": labels.clone()}  # no longer tensors of the inference mode
    if segmenter.model.network.reads_text:
        out["text"] = torch.stack([torch.tensor(known.vector) for known in segmenter.classes]).float()
    return out


def _facts(segmenter: Segmenter, given: dict[str, Tensor]) -> dict[str, Any]:
    """Return the entries of the JSON file about network, images and classes."""
    model, config = segmenter.model, segmenter.model.context.config
    encoder = getattr(model.network, "encoder", None)
    mean, std = (None, None) if encoder is None else encoder.normalisation()
    classes = [{"name": known.name, "supports": known.sources, "text": None} for known in segmenter.classes]
    for entry, vector in zip(classes, given.get("text", ()), strict=False):
        entry["text"] = vector.tolist()
    return {
        **{key: facts_of(segmenter)[key] for key in ("model", "checkpoint", "output", "input")},
        "torch": torch.__version__,
        "encoder": config.model.backbone(),
        "licence_of_encoder_weights": encoder_licence(config, model.network),
        "canvas": {"side": model.view.side, "rule": model.view.rule, "multiple": BLOCK, "label_of_padding": 255},
        "pixels": {"order": "RGB", "range": [0, 255], "normalised_inside": {"mean": mean, "std": std}},
        "shots": given["images"].shape[1],
        "classes": classes,
        "channels": ["background", *(known.name for known in segmenter.classes)],
        "tolerance": MAX_DIFFERENCE,
    }


def _described(tensors: dict[str, Tensor]) -> list[dict[str, Any]]:
    return [
        {"name": name, "dtype": str(x.dtype).removeprefix("torch."), "shape": list(x.shape)}
        for name, x in tensors.items()
    ]
