"""The two modules of an export, supports -> state and query and state -> probabilities, and their files.

The state holds the supports' labels, the text vectors, and all that the network keeps of the supports for its queries.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from model.encoders.features import Features
from model.episode import Episode
from util.predict.encoded_class import SupportBatch, episode_of, shots_per_batch
from util.predict.segmenter import Segmenter

torch.export.register_dataclass(Features)  # the state is the list of its tensors


class Supports(nn.Module):
    """Turns K supports of each of n classes into the state."""

    def __init__(self, segmenter: Segmenter, shots: int):
        super().__init__()
        self.network = segmenter.model.network
        self.together = shots_per_batch("--shots", shots, segmenter.model)

    def forward(self, images: Tensor, labels: Tensor, text: Tensor | None = None) -> list[Tensor]:
        """Return the state: images (n, K, 3, S, S) float32, labels (n, K, S, S) uint8, vectors of the names (n, T)."""
        return pytree.tree_leaves(self.kept(images, labels, text))

    def kept(self, images: Tensor, labels: Tensor, text: Tensor | None = None) -> dict[str, Any]:
        """Return the state as labels, text vectors and features; a first query lets the network keep all it can."""
        parts = zip(images.split(1), labels.split(1), strict=True)
        pairs = [pair for part in parts for pair in zip(*(x.split(self.together, 1) for x in part), strict=True)]
        features = [self.network.cache_support(*pair) for pair in pairs]
        state = {"labels": labels.clone(), "features": features} | ({} if text is None else {"text": text.clone()})
        self.network.forward_classes(self.episodes(torch.zeros_like(images[:1, 0]), state, [pair[0] for pair in pairs]))
        return state

    def episodes(self, query: Tensor, state: dict[str, Any], images: list[Tensor] | None = None) -> list[Episode]:
        """Return the episodes of a query (1, 3, S, S); once all is kept of the supports, their images are black."""
        labels = [part for of_class in state["labels"].split(1) for part in of_class.split(self.together, 1)]
        text = state.get("text", [None] * len(state["labels"]))
        episodes = []
        for i, (label, features) in enumerate(zip(labels, state["features"], strict=True)):
            image = query.new_zeros(*label.shape[:2], *query.shape[1:]) if images is None else images[i]
            batch = SupportBatch(image, label, features)
            vector = text[i * len(text) // len(labels)]
            episodes.append(episode_of(query, batch, vector, 0, self.network.reads_base_labels))
        return episodes


class Query(nn.Module):
    """Turns a query (1, 3, S, S) and the state into probabilities (1, n + 1, S, S)."""

    def __init__(self, supports: Supports, segmenter: Segmenter, example: dict[str, Any]):
        """``example``: what ``kept`` returns, whose form every state has."""
        super().__init__()
        self.supports, self.margins_of, self.form = supports, segmenter.margins_of, pytree.tree_structure(example)

    def forward(self, query: Tensor, *state: Tensor) -> Tensor:
        """Return the probabilities for one query, RGB in 0..255, background first."""
        kept = pytree.tree_unflatten(state, self.form)
        output = self.supports.network.forward_classes(self.supports.episodes(query, kept))
        count = len(kept["labels"])
        return with_background(self.margins_of(output, [len(kept["features"]) // count] * count))


def with_background(margins: Tensor) -> Tensor:
    """Return the probabilities (B, n + 1, S, S) of background and classes from margins (B, n, S, S)."""
    return torch.cat([torch.zeros_like(margins[:, :1]), margins], 1).softmax(1)


def traced(module: nn.Module, inputs: Sequence[Tensor]) -> ExportedProgram:
    """Return the program of a module, for inputs of these sizes."""

    def argsort(x: Tensor, *, stable: bool, dim: int = -1, descending: bool = False) -> Tensor:
        return torch.argsort(x, dim, descending)  # ONNX sorts in a stable way and has no word for it

    program = torch.export.export(module, tuple(inputs), strict=False)
    attention = torch.ops.aten.scaled_dot_product_attention.default  # of sizes that ONNX's operation does not take
    table = {torch.ops.aten.argsort.stable: argsort, attention: torch.export.default_decompositions()[attention]}
    program = program.run_decompositions(table)  # drops the contexts of autocast too
    for node in program.graph.find_nodes(op="call_function", target=torch.ops.aten._assert_tensor_metadata.default):
        program.graph.erase_node(node)  # a reader of values that nothing else reads
    program.graph.eliminate_dead_code()
    for node, spec in zip(program.graph.nodes, program.graph_signature.input_specs, strict=False):
        if spec.target in program.state_dict and not node.users:  # weights of the other file
            program.state_dict[spec.target] = nn.Parameter(torch.zeros(()), requires_grad=False)
    return program


def pt2(program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Return a program as torch.export's archive, which names no tensors."""
    content = io.BytesIO()  # with a full disk, a file would abort the process in C++
    torch.export.save(program, content)
    return content.getvalue()


def run_pt2(path: Path) -> Callable[..., Any]:
    """Return a file of ``pt2`` as a function of tensors."""
    return torch.export.load(path).module()


def onnx(program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Return a program as ONNX's file, with the names of its tensors."""

    written = torch.onnx.export(program, dynamo=True, input_names=inputs, output_names=outputs, verbose=False)
    assert written is not None
    return written.model_proto.SerializeToString()


def run_onnx(path: Path) -> Callable[..., Any]:
    """Return a file of ``onnx`` as a function of tensors."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(*inputs: Tensor) -> list[Tensor]:
        outputs = session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))
        return [torch.from_numpy(x) for x in outputs]

    return run
