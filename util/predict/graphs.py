"""Cut a network into two graphs of fixed sizes: supports to a state, and query and state to a margin.

The network is traced once, for one query. What depends on the supports alone becomes the first graph, the rest the
second; the tensors on the cut are the state. What depends on neither is computed here, once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.common.fixed_shapes import fixed_shapes

CONSTANT, SUPPORTS, QUERY = 0, 1, 2  # of what a value depends on; the larger one of a value's inputs wins
# Operations that only show their input in another form: the state holds the input, which is never larger.
FORMS = {"alias", "expand", "unsqueeze", "view", "_unsafe_view", "permute", "transpose", "clone", "detach", "t"}


@dataclass
class Graphs:
    """The two graphs of a network.

    Attributes:
        supports: (images, labels[, text]) -> the state, a tuple of tensors.
        query: (query, *state) -> the output.
    """

    supports: fx.GraphModule
    query: fx.GraphModule


def cut(network: Callable[..., Tensor], query: Tensor, supports: Sequence[Tensor]) -> Graphs:
    """Return the graphs of ``network(query, *supports)``."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), fixed_shapes():
        functional = torch.func.functionalize(lambda *inputs: network(*inputs))
        traced = make_fx(functional)(query, *supports)
    traced.graph.eliminate_dead_code()
    depends = _dependence(traced.graph)
    constants = _Constants(traced, depends).values
    inputs = [node for node in traced.graph.nodes if node.op == "placeholder"]
    state = _state(traced.graph, depends)
    output = next(node for node in traced.graph.nodes if node.op == "output")
    return Graphs(
        _part(inputs[1:], state, [n for n in traced.graph.nodes if depends[n] == SUPPORTS], constants, as_tuple=True),
        _part([inputs[0], *state], [output.args[0]], [*traced.graph.nodes], constants, as_tuple=False),
    )


def _dependence(graph: fx.Graph) -> dict[fx.Node, int]:
    """Return node -> what its value depends on."""
    out: dict[fx.Node, int] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            out[node] = SUPPORTS if QUERY in out.values() else QUERY
        else:
            out[node] = max((out[x] for x in node.all_input_nodes), default=CONSTANT)
    return out


class _Constants(fx.Interpreter):
    """Computes the nodes that depend on no input."""

    def __init__(self, module: fx.GraphModule, depends: dict[fx.Node, int]):
        super().__init__(module)
        self.depends, self.values = depends, {}
        for node in module.graph.nodes:
            if depends[node] == CONSTANT and node.op != "output":
                self.env[node] = self.values[node] = self.run_node(node)


def _state(graph: fx.Graph, depends: dict[fx.Node, int]) -> list[fx.Node]:
    """Return the nodes of the supports that the query's nodes read, before operations that only change their form."""
    out: dict[fx.Node, None] = {}
    for node in graph.nodes:
        if depends[node] != QUERY:
            continue
        for read in node.all_input_nodes:
            if depends[read] == SUPPORTS:
                out[_before_forms(read)] = None
    return list(out)


def _before_forms(node: fx.Node) -> fx.Node:
    while node.op == "call_function" and getattr(node.target, "_opname", None) in FORMS:
        before = node.all_input_nodes[0]
        node = before
    return node


def _part(
    inputs: Sequence[fx.Node],
    outputs: Sequence[fx.Node],
    nodes: Sequence[fx.Node],
    constants: dict[fx.Node, Any],
    as_tuple: bool,
) -> fx.GraphModule:
    """Return the graph from some nodes of a graph to others."""
    root, graph = nn.Module(), fx.Graph()
    copies = {node: graph.placeholder(f"input_{i}") for i, node in enumerate(inputs)}

    def copy(node: fx.Node) -> fx.Node:
        if node not in copies and isinstance(value := constants.get(node), Tensor):
            name = f"constant_{len(copies)}"
            root.register_buffer(name, value.detach().clone())
            copies[node] = graph.get_attr(name)
        return copies[node]

    needed = _ancestors(outputs, {*inputs} | constants.keys())
    for node in nodes:
        if node in needed and node not in copies:
            copies[node] = graph.node_copy(node, copy)
    given = tuple(copy(node) for node in outputs)
    graph.output(given if as_tuple else given[0])
    graph.lint()
    return fx.GraphModule(root, graph)


def _ancestors(outputs: Sequence[fx.Node], ends: set[fx.Node]) -> set[fx.Node]:
    """Return the nodes from which ``outputs`` are computed, up to ``ends``, which are left out."""
    found: set[fx.Node] = set()
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node not in found and node not in ends:
            found.add(node)
            waiting.extend(node.all_input_nodes)
    return found
