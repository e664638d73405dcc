"""Export a network with its supports as a graph that runs without this project, and a JSON file that describes it.

The graph turns a query into probabilities, with fixed sizes; ``run.py`` shows how images are made. It holds all
that the network keeps of the supports. ``run.py`` beside it segments photos.
"""

import contextlib
import importlib.util
import io
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from photos import options
from photos.command import NO_EXAMPLE
from photos.encoded_class import EncodedClass
from photos.examples import file_names
from photos.export import run
from photos.segmenter import Segmenter
from util.cli import Parser
from util.engine import Scores
from util.files import write_atomically
from util.files.errors import UserError
from util.files.made import made_aside

RUN = Path(run.__file__)
MAX_DIFFERENCE = 1e-4  # of a probability, between the exported graph and the network, in float32
MAX_IN_HALF = 0.02  # the same where both are in bf16 or fp16, of 8 or 11 bits


class WithoutIdleSwitches(TorchFunctionMode):
    """Leaves out that gradients are switched off where they are off: the exporter rewrites its graph at each switch."""

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, unless it is a switch that changes nothing."""
        is_idle = func is torch._C._set_grad_enabled and args == (False,) and not torch.is_grad_enabled()
        return None if is_idle else func(*args, **(kwargs or {}))


class Query(nn.Module):
    """Turns a query (1, 3, S, S), RGB in 0..255, into the tensors of ``outputs_of``."""

    def __init__(self, segmenter: Segmenter):
        super().__init__()
        self.network = segmenter.model.network
        self.segmenter = segmenter.without_classes()
        for known in segmenter.classes:
            batches = [batch.outside_inference() for batch in known.support_batches]
            self.segmenter.classes.append(replace(known, support_batches=batches))

    def forward(self, query: Tensor) -> list[Tensor]:
        """Return the outputs for one query."""
        with WithoutIdleSwitches():
            scores = self.segmenter.model.scores_of(query, self.segmenter.asked())
            outputs = outputs_of(self.segmenter.fused(scores))
        return list(outputs.values())


def outputs_of(scores: Scores) -> dict[str, Tensor]:
    """Return the outputs for queries: probabilities (B, n + 1, S, S), background first, and ``Segmenter.scores``."""
    margins, presence_features = scores.margins, scores.presence_features
    probabilities = torch.cat([torch.zeros_like(margins[:, :1]), margins], 1).softmax(1)
    outputs = {"probabilities": probabilities, "margins": margins}
    if presence_features is not None:
        outputs["presence_features"] = presence_features
    return outputs


def traced(module: nn.Module, query: Tensor, for_onnx: bool) -> ExportedProgram:
    """Return the program of a module, for queries of this size; ``for_onnx``: in operations that ONNX knows."""
    program = torch.export.export(module, (query,), strict=False)
    _remove_checks(program)
    if for_onnx:
        attention = torch.ops.aten.scaled_dot_product_attention.default  # of sizes that ONNX's operation does not take
        attention_in_steps = torch.export.default_decompositions()[attention]
        table = {torch.ops.aten.argsort.stable: _argsort, attention: attention_in_steps}
        program = program.run_decompositions(table)  # takes as long as the export
        _remove_checks(program)
    for node, spec in zip(program.graph.nodes, program.graph_signature.input_specs, strict=False):
        if spec.target in program.state_dict and not node.users:  # weights that serve the supports alone
            program.state_dict[spec.target] = nn.Parameter(torch.zeros(()), requires_grad=False)
    return program


def _argsort(x: Tensor, *, stable: bool, dim: int = -1, descending: bool = False) -> Tensor:
    return torch.argsort(x, dim, descending)  # ONNX sorts in a stable way and has no word for it


def _remove_checks(program: ExportedProgram) -> None:
    """Remove the checks of tensors' types, which read values that nothing else reads, from all parts of a program.

    A part under autocast would be refused where it computes in another type than while it was traced.
    """
    check = torch.ops.aten._assert_tensor_metadata.default
    parts = [module for module in program.graph_module.modules() if isinstance(module, GraphModule)]
    for part in parts:
        for node in part.graph.find_nodes(op="call_function", target=check):
            part.graph.erase_node(node)
        part.graph.eliminate_dead_code()
        part.recompile()


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
    parser = Parser(prog="predict.py export", description="Export the network with its examples as a graph.")
    options.add_network(parser)
    options.add_examples(parser)
    add, default = parser.add_argument, next(iter(FORMATS))
    add("--out", type=Path, required=True, help="folder to write")
    add("--format", choices=FORMATS, default=default, help=f"default {default}")
    add("--overwrite", action="store_true", help="overwrite an earlier export in this folder")
    parsed = parser.parse_args(arguments)
    out, format_name = parsed.out, parsed.format
    if format_name == "onnx":
        _check_packages()
    if out.exists() and any(out.iterdir()) and not parsed.overwrite:
        raise UserError(f"--out {out}: this folder is not empty; name another, or add --overwrite")
    examples, _ = options.examples_of(parsed)
    if not examples:
        raise UserError(NO_EXAMPLE)
    segmenter = options.segmenter_of(parsed, examples, device="cpu")
    precision = segmenter.model.precision
    if format_name == "onnx" and precision != "float32":
        raise UserError(f"--format onnx: takes float32 and not {precision}; add --set run.precision=float32")
    for note in segmenter.notes:
        print(note)
    difference = write_export(segmenter, out, format_name)
    limit = f"{difference:.1e} (allowed: {allowed_difference(segmenter):.0e})"
    print(f"{out}: in {precision}, its probabilities differ from those of predict.py by at most {limit}")
    return 0


def _check_packages() -> None:
    """Refuse (UserError) ONNX where a package that it needs is not installed."""
    names = "onnx", "onnxscript", "onnxruntime"
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"--format onnx: {name} is not installed; pip install {' '.join(names)}")


def allowed_difference(segmenter: Segmenter) -> float:
    """Return the largest difference of a probability between the exported graph and the network."""
    return MAX_IN_HALF if segmenter.model.has_half_precision else MAX_DIFFERENCE


def write_export(segmenter: Segmenter, out: Path, format_name: str) -> float:
    """Write the folder of a segmenter on the CPU, in its precision; return the largest difference of a probability.

    UserError: the model cannot be exported, the disk is full, or the graph's probabilities differ from the network's.
    """
    model = segmenter.model
    if model.network.shapes_follow_values:
        reason = "a graph has fixed shapes, and those of this method depend on the photos' content"
        remedy = "" if segmenter.presence_by is None else "; leave out --adapt material to export the network"
        raise UserError(f"{model.title}: cannot be exported: {reason}{remedy}")
    query = segmenter.classes[0].images[0, :1].clone().roll(model.view.side // 3, -1)  # (1, 3, S, S)
    expected = outputs_of(segmenter.scores(query))
    file = f"query.{format_name}"
    facts = {
        **{"format": format_name, "file": file, "torch": torch.__version__},
        **_facts_of(segmenter),
        "inputs": _tensor_facts({"query": query}),
        "outputs": _tensor_facts(expected),
    }
    with made_aside(out, run.FACTS) as folder:
        path = folder / file
        write_atomically(path, _content(segmenter, query, format_name, outputs=[*expected]))
        difference = _difference(path, query, expected)
        allowed = allowed_difference(segmenter)
        if not difference <= allowed:  # also where it is not a number
            problem = f"differ from the network's in {model.precision} by {difference:.1e}, {allowed:.0e} is allowed"
            raise UserError(f"--out {out}: removed, because its probabilities {problem}; try another --format")
        write_atomically(folder / RUN.name, RUN.read_bytes())
        text = json.dumps({**facts, "difference": difference}, indent=1, ensure_ascii=False)
        write_atomically(folder / run.FACTS, text)
    return difference


def _facts_of(segmenter: Segmenter) -> dict[str, Any]:
    """Return what the JSON file says of the network, its input, the classes and the calibration."""
    model = segmenter.model
    calibration = segmenter.calibration
    return {
        **{key: segmenter.facts[key] for key in ("model", "input", "precision")},
        "checkpoint": Path(model.source).name,
        **model.export_facts(),
        "classes": [_class_facts(known) for known in segmenter.classes],
        "calibration": None if calibration is None else calibration.for_export(),
    }


def _class_facts(known: EncodedClass) -> dict[str, Any]:
    """Return the name of a class and its examples, without this machine's folders."""
    return {"name": known.name, "supports": [file_names(source) for source in known.sources]}


def _tensor_facts(tensors: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Return name, type and shape of tensors."""
    return [
        {"name": name, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
        for name, tensor in tensors.items()
    ]


def _difference(path: Path, query: Tensor, expected: dict[str, Tensor]) -> float:
    """Return the largest difference of the outputs but margins, for a query, between a graph and the network."""
    differences = []
    for (name, tensor), array in zip(expected.items(), run.graph(path)(query.numpy())):
        if name != "margins":
            differences.append(np.abs(array - tensor.numpy()).max())
    return float(np.max(differences))


def _content(segmenter: Segmenter, query: Tensor, format_name: str, outputs: Sequence[str]) -> bytes:
    """Return a graph's file, without the exporters' progress and advice; UserError: it cannot be exported."""
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            stack.enter_context(warnings.catch_warnings())
            stack.enter_context(torch.no_grad())
            stack.enter_context(segmenter.model.traced())
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            warnings.simplefilter("ignore")
            module = Query(segmenter).eval()
            # The trace sees another query than the check, which would notice a value that became a constant.
            program = traced(module, query.flip(-1), for_onnx=format_name == "onnx")
            return FORMATS[format_name](program, outputs)
    except Exception as error:  # the exporters raise many kinds
        message = str(error.__cause__ or error).strip()  # the cause says more
        reason = next(iter(message.splitlines()), type(error).__name__)
        problem = f"cannot export this network as {format_name} ({reason}); try another --format or a newer torch"
        raise UserError(f"{segmenter.model.title}: torch {torch.__version__} {problem}") from None
