"""The formats of exported graphs: each gives the content of two files, and runs such a file without the network.

The query's graph holds the network for one query in a loop over the batch: torch's ``map``, ONNX's ``Scan``. The loop
costs nothing on CPUs, and the memory is that of one query.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn

from util.errors import UserError

PROBABILITIES, BATCH = "probabilities", "batch"  # names of the query graph's output and of its first dimension
EXAMPLES = 2  # queries in the batch that is traced: of one, torch would take the size as fixed
REQUIREMENTS = "requirements-export.txt"
Run = Callable[..., list[Tensor]]


class Format(ABC):
    """A format of files."""

    suffix: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()  # beside torch

    @abstractmethod
    def supports_file(self, graph: fx.GraphModule, examples: Sequence[Tensor]) -> bytes:
        """Return the file of the supports' graph."""

    @abstractmethod
    def query_file(self, graph: fx.GraphModule, examples: Sequence[Tensor]) -> bytes:
        """Return the file of the query's graph; its first input and its output have one more dimension, the batch."""

    @abstractmethod
    def runner(self, path: Path) -> Run:
        """Return a function that runs a written file on its inputs and returns its outputs."""

    def check_packages(self, name: str) -> None:
        """Refuse a format whose packages are missing.

        Raises:
            UserError: names the first one.
        """
        for package in self.packages:
            if _is_missing(package):
                raise UserError(f"--format {name}: {package} is not installed; pip install -r {REQUIREMENTS}")


def _is_missing(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is None
    except ValueError:  # its module is None or has no spec
        return True


class _EachQuery(nn.Module):
    """The graph of one query, applied to each of a batch; its constants are inputs of the loop, as torch needs them."""

    def __init__(self, one: fx.GraphModule):
        super().__init__()
        graph, constants = fx.Graph(), {n: str(n.target) for n in one.graph.nodes if n.op == "get_attr"}
        inputs = [n for n in one.graph.nodes if n.op == "placeholder"]
        copies = {n: graph.placeholder(n.name) for n in (*inputs, *constants)}
        for node in one.graph.nodes:
            if node.op == "output":
                graph.output((copies[node.args[0]],))
            elif node not in copies:
                copies[node] = graph.node_copy(node, copies.__getitem__)
        self.one = fx.GraphModule({}, graph)
        self.names = list(constants.values())
        for name in self.names:
            self.register_buffer(name, one.get_buffer(name))

    def forward(self, query: Tensor, *state: Tensor) -> Tensor:
        """Return the outputs (B, ...) for queries (B, ...)."""
        from torch._higher_order_ops.map import map_impl

        return map_impl(self.one, [query], [*state, *(self.get_buffer(name) for name in self.names)])[0]


class PT2(Format):
    """torch.export's archive: ``torch.export.load(file).module()(...)``."""

    suffix = ".pt2"

    def supports_file(self, graph: fx.GraphModule, examples: Sequence[Tensor]) -> bytes:
        """See :class:`Format`."""
        return _saved(torch.export.export(graph, tuple(examples), strict=False))

    def query_file(self, graph: fx.GraphModule, examples: Sequence[Tensor]) -> bytes:
        """See :class:`Format`."""
        query, *state = examples
        queries = query.expand(EXAMPLES, *query.shape).contiguous()
        dynamic = {"query": {0: torch.export.Dim(BATCH)}, "state": tuple({} for _ in state)}
        exported = torch.export.export(_EachQuery(graph), (queries, *state), dynamic_shapes=dynamic, strict=False)
        return _saved(exported)

    def runner(self, path: Path) -> Run:
        """See :class:`Format`."""
        module = torch.export.load(path).module()
        return lambda *inputs: _as_list(module(*inputs))


class ONNX(Format):
    """ONNX, written by torch's exporter and run by onnxruntime."""

    suffix = ".onnx"
    packages = ("onnx", "onnxscript", "onnxruntime")

    def supports_file(self, graph: fx.GraphModule, examples: Sequence[Tensor]) -> bytes:
        """See :class:`Format`."""
        names = _names(graph)
        return _onnx(graph, examples, names, _state_names(graph)).SerializeToString()

    def query_file(self, graph: fx.GraphModule, examples: Sequence[Tensor]) -> bytes:
        """See :class:`Format`."""
        one = _onnx(graph, examples, _names(graph), [PROBABILITIES])
        return _over_batch(one).SerializeToString()

    def runner(self, path: Path) -> Run:
        """See :class:`Format`."""
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = {given.name: i for i, given in enumerate(session.get_inputs())}

        def run(*inputs: Tensor) -> list[Tensor]:
            given = {name: inputs[i].numpy() for name, i in names.items()}
            return [torch.from_numpy(x) for x in session.run(None, given)]

        return run


def _saved(exported: torch.export.ExportedProgram) -> bytes:
    out = io.BytesIO()  # a full disk would abort the process in C++
    torch.export.save(exported, out)
    return out.getvalue()


def _onnx(graph: fx.GraphModule, examples: Sequence[Tensor], inputs: list[str], outputs: list[str]) -> Any:
    """Return a graph as ONNX's ``ModelProto``."""
    graph = fx.GraphModule(graph, copy.deepcopy(graph.graph))
    for node in graph.graph.nodes:
        if node.target is torch.ops.aten.sort.stable:  # ONNX sorts in a stable way and has no word for it
            node.target = torch.ops.aten.sort.default
            node.kwargs = {name: value for name, value in node.kwargs.items() if name != "stable"}
    graph.recompile()
    program = torch.onnx.export(
        graph, tuple(examples), dynamo=True, input_names=inputs, output_names=outputs, verbose=False
    )
    assert program is not None
    return program.model_proto


def _over_batch(one: Any) -> Any:
    """Return the model that applies a model to every item along a new first dimension of its first input."""
    from onnx import helper

    (query, *state), (output,) = one.graph.input, one.graph.output

    def batched(info: Any, name: str) -> Any:
        sizes = [d.dim_value for d in info.type.tensor_type.shape.dim]
        return helper.make_tensor_value_info(name, info.type.tensor_type.elem_type, [BATCH, *sizes])

    queries, outputs = batched(query, query.name), batched(output, output.name)
    inner = _renamed(one.graph.node, {query.name: f"one_{query.name}", output.name: f"one_{output.name}"})
    query.name, output.name = f"one_{query.name}", f"one_{output.name}"
    body = helper.make_graph(inner, "one_query", [query], [output])
    scan = helper.make_node("Scan", [queries.name], [outputs.name], num_scan_inputs=1, body=body)
    graph = helper.make_graph([scan], "queries", [queries, *state], [outputs], initializer=one.graph.initializer)
    return helper.make_model(graph, opset_imports=one.opset_import, functions=one.functions, ir_version=one.ir_version)


def _renamed(nodes: Any, names: dict[str, str]) -> list[Any]:
    """Return nodes with some of their inputs and outputs renamed."""
    for node in nodes:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]
    return list(nodes)


def _names(graph: fx.GraphModule) -> list[str]:
    return [str(node.target) for node in graph.graph.nodes if node.op == "placeholder"]


def _state_names(graph: fx.GraphModule) -> list[str]:
    from util.export.graphs import STATE_NAME

    (outputs,) = next(node for node in graph.graph.nodes if node.op == "output").args
    return [STATE_NAME.format(i) for i in range(len(outputs))]


def _as_list(outputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' progress and advice from the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


FORMATS: dict[str, Format] = {"pt2": PT2(), "onnx": ONNX()}
