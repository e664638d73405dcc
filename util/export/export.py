"""Export a network with its supports as a graph that runs without this project, and a JSON file that describes it.

The graph turns a query into probabilities, with fixed sizes; docs/predict.md says how images are made. It holds all
that the network keeps of the supports. ``run.py`` beside it segments photos.
"""

import contextlib
import importlib.util
import io
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.common.fixed_shapes import fixed_shapes
from util.cli import Parser
from util.data.images.views import BLOCK
from util.errors import UserError
from util.evaluate.calibration import GRID, QUANTILES
from util.export import run
from util.files import made_aside, write_atomically
from util.predict.command import NO_SUPPORTS, add_model_and_supports, build_segmenter, marked_by
from util.predict.encoded_class import SupportBatch
from util.predict.options import SegmenterOptions, options_of
from util.predict.segmenter import Segmenter
from util.runtime.device import HALF

RUN = Path(run.__file__)
MAX_DIFFERENCE = 1e-4  # of a probability, between the exported graph and the network, in float32
MAX_IN_HALF = 0.02  # the same where both are in bf16 or fp16, of 8 or 11 bits


class Query(nn.Module):
    """Turns a query (1, 3, S, S), RGB in 0..255, into the tensors of ``outputs_of``."""

    def __init__(self, segmenter: Segmenter):
        super().__init__()
        self.network, self.segmenter = segmenter.model.network, segmenter.without_classes()
        for known in segmenter.classes:  # no longer tensors of the inference mode
            kept = [(batch.image.clone(), batch.label.clone()) for batch in known.support_batches]
            batches = [SupportBatch(*pair, self.network.cache_support(*pair)) for pair in kept]
            self.segmenter.classes.append(replace(known, support_batches=batches))
        self(torch.zeros(1, 3, *segmenter.classes[0].images.shape[-2:]))  # lets the network keep all it can

    def forward(self, query: Tensor) -> list[Tensor]:
        """Return the outputs for one query."""
        episodes, counts = self.segmenter.episodes(query)
        return [*outputs_of(*self.segmenter.scores_of(self.network.forward_classes(episodes), counts)).values()]


def outputs_of(margins: Tensor, presence_features: Tensor | None) -> dict[str, Tensor]:
    """Return the outputs for queries: probabilities (B, n + 1, S, S), background first, and ``Segmenter.scores``."""
    probabilities = torch.cat([torch.zeros_like(margins[:, :1]), margins], 1).softmax(1)
    out = {"probabilities": probabilities, "margins": margins}
    return out if presence_features is None else {**out, "presence_features": presence_features}


def traced(module: nn.Module, query: Tensor, for_onnx: bool) -> ExportedProgram:
    """Return the program of a module, for queries of this size; ``for_onnx``: in operations that ONNX knows."""

    def argsort(x: Tensor, *, stable: bool, dim: int = -1, descending: bool = False) -> Tensor:
        return torch.argsort(x, dim, descending)  # ONNX sorts in a stable way and has no word for it

    def clean(program: ExportedProgram) -> None:
        for node in program.graph.find_nodes(op="call_function", target=torch.ops.aten._assert_tensor_metadata.default):
            program.graph.erase_node(node)  # a reader of values that nothing else reads
        program.graph.eliminate_dead_code()

    program = torch.export.export(module, (query,), strict=False)
    clean(program)
    if for_onnx:  # it takes as long as the export
        attention = torch.ops.aten.scaled_dot_product_attention.default  # of sizes that ONNX's operation does not take
        table = {torch.ops.aten.argsort.stable: argsort, attention: torch.export.default_decompositions()[attention]}
        clean(program := program.run_decompositions(table))
    for node, spec in zip(program.graph.nodes, program.graph_signature.input_specs, strict=False):
        if spec.target in program.state_dict and not node.users:  # weights that serve the supports alone
            program.state_dict[spec.target] = nn.Parameter(torch.zeros(()), requires_grad=False)
    return program


def pt2(program: ExportedProgram, _: Sequence[str]) -> bytes:
    """Return a program as torch.export's archive, which names no tensors."""
    content = io.BytesIO()  # with a full disk, a file would abort the process in C++
    torch.export.save(program, content)
    return content.getvalue()


def onnx(program: ExportedProgram, outputs: Sequence[str]) -> bytes:
    """Return a program as ONNX's file, with the names of its tensors."""
    written = torch.onnx.export(program, dynamo=True, input_names=["query"], output_names=outputs, verbose=False)
    assert written is not None
    return written.model_proto.SerializeToString()


FORMATS = {"pt2": pt2, "onnx": onnx}


def export(arguments: list[str]) -> int:
    """Write the folder that a command line describes, and return the exit code 0.

    UserError: the command line, a file or the disk; the model cannot be exported in this format; or the files'
    probabilities differ from the network's.
    """
    parser = Parser(prog="predict.py export", description="Export the network with its supports as a graph.")
    add_model_and_supports(parser)
    add, default = parser.add_argument, next(iter(FORMATS))
    add("--out", type=Path, required=True, help="folder to write")
    add("--format", choices=FORMATS, default=default, help=f"default {default}")
    add("--overwrite", action="store_true", help="overwrite an earlier export in this folder")
    parsed = parser.parse_args(arguments)
    out, kind = parsed.out, parsed.format
    packages = ("onnx", "onnxscript", "onnxruntime") if kind == "onnx" else ()
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise UserError(f"--format onnx: {missing[0]} is not installed; pip install -r requirements-export.txt")
    if out.exists() and any(out.iterdir()) and not parsed.overwrite:
        raise UserError(f"--out {out}: this folder is not empty; name another, or add --overwrite")
    options = replace(options_of(SegmenterOptions, parsed), device="cpu")
    if not (marked := marked_by(options)[0]):
        raise UserError(NO_SUPPORTS)
    segmenter = build_segmenter(options, marked)
    precision = segmenter.model.precision
    if kind == "onnx" and precision != "float32":
        raise UserError(f"--format onnx: takes float32 and not {precision}; add --set test.precision=float32")
    for note in segmenter.notes:
        print(note)
    difference = write_export(segmenter, out, kind)
    allowed = f"{difference:.1e} at most, of {allowed_difference(precision):.0e} allowed"
    print(f"{out}: in {precision}, differs from predict.py in {precision} by {allowed}")
    return 0


def allowed_difference(precision: str) -> float:
    """Return the largest difference of a probability between the exported graph and the network at a precision."""
    return MAX_IN_HALF if precision in HALF else MAX_DIFFERENCE


def write_export(segmenter: Segmenter, out: Path, name: str) -> float:
    """Write the folder of a segmenter on the CPU, in its precision; return the largest difference of a probability.

    ``name`` is that of the format. UserError: the model cannot be exported, the disk is full, or the graph's
    probabilities differ from the network's.
    """
    model, known = segmenter.model, segmenter.calibration
    if model.network.cannot_export is not None:
        raise UserError(f"{model.network.title}: cannot be exported: {model.network.cannot_export}")
    query = segmenter.classes[0].images[0, :1].clone().roll(model.view.side // 3, -1)  # (1, 3, S, S)
    expected, encoder = outputs_of(*segmenter.scores(query)), getattr(model.network, "encoder", None)
    mean, std = (None, None) if encoder is None else encoder.normalisation()
    facts: dict[str, Any] = {
        **{"format": name, "file": f"query.{name}", "torch": torch.__version__},
        **{key: segmenter.facts[key] for key in ("model", "checkpoint", "output", "input", "precision")},
        "licence_of_encoder_weights": model.weights.encoder_licence,
        "canvas": {"side": model.view.side, "rule": model.view.rule, "multiple": BLOCK},
        "pixels": {"order": "RGB", "range": [0, 255], "normalised_inside": {"mean": mean, "std": std}},
        "classes": [{"name": one.name, "supports": one.sources} for one in segmenter.classes],
        "calibration": None if known is None else {**asdict(known), "grid": GRID, "quantiles": QUANTILES},
    }
    for key, tensors in (("inputs", {"query": query}), ("outputs", expected)):
        kinds = {k: str(x.dtype).removeprefix("torch.") for k, x in tensors.items()}
        facts[key] = [{"name": k, "dtype": kinds[k], "shape": list(x.shape)} for k, x in tensors.items()]
    with made_aside(out, run.FACTS) as folder:
        path = folder / facts["file"]
        write_atomically(path, _content(segmenter, query, name, [*expected]))
        found = dict(zip(expected, run.graph(path)(query.numpy())))
        difference = float(np.max([np.abs(x - expected[k].numpy()).max() for k, x in found.items() if k != "margins"]))
        allowed = allowed_difference(model.precision)
        if not difference <= allowed:  # also where it is not a number
            problem = f"differ from the network's in {model.precision} by {difference:.1e}, {allowed:.0e} is allowed"
            raise UserError(f"--out {out}: removed, because its probabilities {problem}; try another --format")
        write_atomically(folder / RUN.name, RUN.read_bytes())
        text = json.dumps({**facts, "difference": difference}, indent=1, ensure_ascii=False)
        write_atomically(folder / run.FACTS, text)
    return difference


def _content(segmenter: Segmenter, query: Tensor, name: str, outputs: Sequence[str]) -> bytes:
    # without the exporters' progress and advice
    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    try:
        with contextlib.ExitStack() as stack:
            for context in (*quiet, warnings.catch_warnings(), torch.no_grad(), segmenter.model.forward_pass()):
                stack.enter_context(context)
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            stack.enter_context(fixed_shapes())
            warnings.simplefilter("ignore")
            # The trace sees another query than the check, which would notice a value that became a constant.
            return FORMATS[name](traced(Query(segmenter).eval(), query.flip(-1), name == "onnx"), outputs)
    except Exception as error:  # the exporters raise many kinds
        said = str(error.__cause__ or error).strip()  # the cause says more
        reason = next(iter(said.splitlines()), type(error).__name__)
        problem = f"cannot export this network as {name} ({reason}); try another --format or a newer torch"
        raise UserError(f"{segmenter.model.network.title}: torch {torch.__version__} {problem}") from None
