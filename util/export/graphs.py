"""Cut a network into two graphs of fixed sizes: supports to a state, and query and state to an output.

The network is traced once, for one query. Operations that depend on the supports alone become the first graph, the rest
becomes the second; the tensors on the cut are the state. Operations that depend on neither run here, once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.common.fixed_shapes import fixed_shapes

CONSTANT, SUPPORTS, QUERY = 0, 1, 2  # what a value depends on; of several inputs the largest decides
SMALL_CONSTANT = 64  # numbers up to which constants with equal values count as one
QUERY_NAME, STATE_NAME = "query", "state_{}"  # of the inputs
# Operations that give their input another form; the state holds the input, which is never larger.
FORMS = {"alias", "clone", "detach", "expand", "permute", "t", "transpose", "unsqueeze", "view", "_unsafe_view"}


@dataclass
class Graphs:
    """The two graphs of a network.

    Attributes:
        supports: the supports' tensors -> the state, a tuple of tensors.
        query: (query, *state) -> the output.
    """

    supports: fx.GraphModule
    query: fx.GraphModule


def cut(network: Callable[..., Tensor], query: Tensor, supports: dict[str, Tensor]) -> Graphs:
    """Return the graphs of ``network(query, **supports)``; the tensors are examples, whose sizes the graphs keep."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), fixed_shapes():
        functional = torch.func.functionalize(lambda query, *others: network(query, **dict(zip(supports, others))))
        traced = make_fx(functional)(query, *supports.values())
    graph = traced.graph
    graph.eliminate_dead_code()
    _without_mutations(graph)
    _without_repetitions(traced)
    depends = _dependence(graph)
    constants = _constants(traced, depends)
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    output = next(node for node in graph.nodes if node.op == "output").args[0]
    state = _state(graph, depends)
    to_state = _part(dict(zip(inputs[1:], supports)), state, constants)
    names = {inputs[0]: QUERY_NAME, **{node: STATE_NAME.format(i) for i, node in enumerate(state)}}
    return Graphs(to_state, _part(names, output, constants))


def _without_mutations(graph: fx.Graph) -> None:
    """Replace operations that change their input; the nodes after one read its result, so both kinds are equal."""
    for node in graph.nodes:
        name = getattr(node.target, "_opname", "")
        if node.op == "call_function" and name.endswith("_"):
            node.target = getattr(getattr(torch.ops.aten, name[:-1]), node.target._overloadname)


def _without_repetitions(traced: fx.GraphModule) -> None:
    """Keep the first of equal operations: classes and shots share weights and what depends on the query alone."""
    first: dict[Any, fx.Node] = {}
    for node in traced.graph.nodes:
        if node.op not in ("call_function", "get_attr"):
            continue
        key: Any = (str(node.target), str(node.args), str(node.kwargs))
        if node.op == "get_attr":
            value = operator.attrgetter(str(node.target))(traced)
            small = value.numel() <= SMALL_CONSTANT
            key = (value.dtype, value.shape, str(value.tolist())) if small else id(value)
        kept = first.setdefault(key, node)
        if kept is not node:
            node.replace_all_uses_with(kept)
            traced.graph.erase_node(node)


def _dependence(graph: fx.Graph) -> dict[fx.Node, int]:
    """Return node -> what its value depends on; the query is the first input."""
    out: dict[fx.Node, int] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            out[node] = SUPPORTS if out else QUERY
        else:
            out[node] = max((out[x] for x in node.all_input_nodes), default=CONSTANT)
    return out


def _constants(traced: fx.GraphModule, depends: dict[fx.Node, int]) -> dict[fx.Node, Any]:
    """Return the values of the nodes that depend on no input."""
    interpreter = fx.Interpreter(traced)
    for node in traced.graph.nodes:
        if depends[node] == CONSTANT and node.op != "output":
            interpreter.env[node] = interpreter.run_node(node)
    return dict(interpreter.env)


def _state(graph: fx.Graph, depends: dict[fx.Node, int]) -> list[fx.Node]:
    """Return the nodes of the supports that the query's nodes read, before operations that only change their form."""
    out: dict[fx.Node, None] = {}
    for node in graph.nodes:
        if depends[node] == QUERY:
            out.update(dict.fromkeys(_before_forms(x) for x in node.all_input_nodes if depends[x] == SUPPORTS))
    return list(out)


def _before_forms(node: fx.Node) -> fx.Node:
    while node.op == "call_function" and getattr(node.target, "_opname", None) in FORMS:
        node = node.all_input_nodes[0]
    return node


def _part(
    inputs: dict[fx.Node, str], outputs: fx.Node | Sequence[fx.Node], constants: dict[fx.Node, Any]
) -> fx.GraphModule:
    """Return the graph from some nodes, with their new names, to others; it holds the constants that it reads."""
    root, graph = nn.Module(), fx.Graph()
    copies = {node: graph.placeholder(name) for node, name in inputs.items()}
    wanted = [outputs] if isinstance(outputs, fx.Node) else list(outputs)

    def copy(node: fx.Node) -> fx.Node:
        if node not in copies:
            name = f"constant_{len(copies)}"
            root.register_buffer(name, constants[node].detach().clone())
            copies[node] = graph.get_attr(name)
        return copies[node]

    for node in _between(wanted, {*inputs, *constants}):
        copies[node] = graph.node_copy(node, copy)
    out = tuple(copy(node) for node in wanted)
    graph.output(out[0] if isinstance(outputs, fx.Node) else out)
    return fx.GraphModule(root, graph)


def _between(outputs: Sequence[fx.Node], ends: Collection[fx.Node]) -> list[fx.Node]:
    """Return the nodes from which ``outputs`` are computed, back to ``ends``, which are left out; in their order."""
    found: set[fx.Node] = set()
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node not in found and node not in ends:
            found.add(node)
            waiting.extend(node.all_input_nodes)
    return [node for node in outputs[0].graph.nodes if node in found]
