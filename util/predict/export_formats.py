"""The formats of exported graphs: each writes the two graphs as files, and runs such a file without the network.

The query's graph holds the network for one query in a loop over the batch: torch's ``map``, ONNX's ``Scan``, a loop of
TorchScript. The loop costs nothing on CPUs, and the memory is that of one query.
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
    def write_supports(self, path: Path, graph: fx.GraphModule, examples: Sequence[Tensor]) -> None:
        """Write the supports' graph."""

    @abstractmethod
    def write_query(self, path: Path, graph: fx.GraphModule, examples: Sequence[Tensor]) -> None:
        """Write the query's graph, whose first input and whose output have one more dimension in front, the batch."""

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

    def write_supports(self, path: Path, graph: fx.GraphModule, examples: Sequence[Tensor]) -> None:
        """See :class:`Format`."""
        torch.export.save(torch.export.export(graph, tuple(examples), strict=False), path)

    def write_query(self, path: Path, graph: fx.GraphModule, examples: Sequence[Tensor]) -> None:
        """See :class:`Format`."""
        query, *state = examples
        queries = query.expand(EXAMPLES, *query.shape).contiguous()
        dynamic = {"query": {0: torch.export.Dim(BATCH)}, "state": tuple({} for _ in state)}
        exported = torch.export.export(_EachQuery(graph), (queries, *state), dynamic_shapes=dynamic, strict=False)
        torch.export.save(exported, path)

    def runner(self, path: Path) -> Run:
        """See :class:`Format`."""
        module = torch.export.load(path).module()
        return lambda *inputs: _as_list(module(*inputs))


class TorchScript(Format):
    """TorchScript, which torch has deprecated: ``torch.jit.load(file)(...)``."""

    suffix = ".pt"

    def write_supports(self, path: Path, graph: fx.GraphModule, examples: Sequence[Tensor]) -> None:
        """See :class:`Format`."""
        torch.jit.save(torch.jit.trace(graph, tuple(examples), check_trace=False), str(path))

    def write_query(self, path: Path, graph: fx.GraphModule, examples: Sequence[Tensor]) -> None:
        """See :class:`Format`."""
        holder = nn.Module()
        holder.one = torch.jit.trace(graph, tuple(examples), check_trace=False)
        module: Any = torch.jit.script(holder)
        names = ", ".join(f"state_{i}" for i in range(len(examples) - 1))
        module.define(
            f"def forward(self, query, {names}):\n"
            f"    return torch.stack([self.one(query[i], {names}) for i in range(query.size(0))])\n"
        )
        torch.jit.save(module, str(path))

    def runner(self, path: Path) -> Run:
        """See :class:`Format`."""
        module = torch.jit.load(str(path), map_location="cpu")
        return lambda *inputs: _as_list(module(*inputs))


class ONNX(Format):
    """ONNX, written by torch's exporter and run by onnxruntime."""

    suffix = ".onnx"
    packages = ("onnx", "onnxscript", "onnxruntime")

    def write_supports(self, path: Path, graph: fx.GraphModule, examples: Sequence[Tensor]) -> None:
        """See :class:`Format`."""
        names = _names(graph)
        path.write_bytes(_onnx(graph, examples, names, _state_names(graph)).SerializeToString())

    def write_query(self, path: Path, graph: fx.GraphModule, examples: Sequence[Tensor]) -> None:
        """See :class:`Format`."""
        one = _onnx(graph, examples, _names(graph), [PROBABILITIES])
        path.write_bytes(_over_batch(one).SerializeToString())

    def runner(self, path: Path) -> Run:
        """See :class:`Format`."""
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = {given.name: i for i, given in enumerate(session.get_inputs())}

        def run(*inputs: Tensor) -> list[Tensor]:
            given = {name: inputs[i].numpy() for name, i in names.items()}
            return [torch.from_numpy(x) for x in session.run(None, given)]

        return run


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
    from util.predict.graphs import STATE_NAME

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


FORMATS: dict[str, Format] = {"pt2": PT2(), "onnx": ONNX(), "torchscript": TorchScript()}
