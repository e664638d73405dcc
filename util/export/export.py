"""Export a network as two files that run without this project, and a JSON file that describes them.

``supports`` turns the supports of every class into a state of fixed size; ``query`` turns queries and that state into
probabilities, with fixed sizes; docs/predict.md says how images are made. The state holds the supports' labels, the
text vectors, and all that the network keeps of the supports for its queries; that of given supports is written too,
beside ``run.py``, which segments photos with it.
"""

import contextlib
import importlib.util
import io
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from model.common.fixed_shapes import fixed_shapes
from model.encoders.features import Features
from model.episode import Episode
from util.checkpoints.weights import encoder_licence
from util.cli import Parser, within
from util.data.images.views import BLOCK
from util.errors import UserError
from util.evaluate.calibration import GRID, QUANTILES
from util.export import run
from util.files import write_atomically
from util.predict.encoded_class import SupportBatch, episode_of, shots_per_batch
from util.predict.options import add_model_and_supports, marked_by, segmenter_of
from util.predict.segmenter import Segmenter
from util.predict.supports import Support
from util.prepare.staging import alone, made_aside

RUN = Path(run.__file__)
PARTS = ("supports", "query")  # names of the files
MAX_DIFFERENCE = 1e-4  # of a probability, between the exported files and the network


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
    """Turns a query (1, 3, S, S) and the state into the tensors of ``outputs_of``."""

    def __init__(self, supports: Supports, segmenter: Segmenter, example: dict[str, Any]):
        """``example``: what ``kept`` returns, whose form every state has."""
        super().__init__()
        self.supports, self.scores_of, self.form = supports, segmenter.scores_of, pytree.tree_structure(example)

    def forward(self, query: Tensor, *state: Tensor) -> list[Tensor]:
        """Return the outputs for one query, RGB in 0..255."""
        kept = pytree.tree_unflatten(state, self.form)
        output = self.supports.network.forward_classes(self.supports.episodes(query, kept))
        count = len(kept["labels"])
        return [*outputs_of(*self.scores_of(output, [len(kept["features"]) // count] * count)).values()]


def outputs_of(margins: Tensor, evidence: Tensor | None) -> dict[str, Tensor]:
    """Return the outputs for queries: probabilities (B, n + 1, S, S), background first, and ``Segmenter.scores``."""
    probabilities = torch.cat([torch.zeros_like(margins[:, :1]), margins], 1).softmax(1)
    out = {"probabilities": probabilities, "margins": margins}
    return out if evidence is None else {**out, "evidence": evidence}


def traced(module: nn.Module, inputs: Sequence[Tensor], for_onnx: bool) -> ExportedProgram:
    """Return the program of a module, for inputs of these sizes; ``for_onnx``: in operations that ONNX knows."""

    def argsort(x: Tensor, *, stable: bool, dim: int = -1, descending: bool = False) -> Tensor:
        return torch.argsort(x, dim, descending)  # ONNX sorts in a stable way and has no word for it

    def clean(program: ExportedProgram) -> None:
        for node in program.graph.find_nodes(op="call_function", target=torch.ops.aten._assert_tensor_metadata.default):
            program.graph.erase_node(node)  # a reader of values that nothing else reads
        program.graph.eliminate_dead_code()  # such as the first query of ``Supports.kept``

    program = torch.export.export(module, tuple(inputs), strict=False)
    clean(program)
    if for_onnx:  # it takes as long as the export
        attention = torch.ops.aten.scaled_dot_product_attention.default  # of sizes that ONNX's operation does not take
        table = {torch.ops.aten.argsort.stable: argsort, attention: torch.export.default_decompositions()[attention]}
        program = program.run_decompositions(table)
        clean(program)
    for node, spec in zip(program.graph.nodes, program.graph_signature.input_specs, strict=False):
        if spec.target in program.state_dict and not node.users:  # weights of the other file
            program.state_dict[spec.target] = nn.Parameter(torch.zeros(()), requires_grad=False)
    return program


def pt2(program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Return a program as torch.export's archive, which names no tensors."""
    content = io.BytesIO()  # with a full disk, a file would abort the process in C++
    torch.export.save(program, content)
    return content.getvalue()


def onnx(program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Return a program as ONNX's file, with the names of its tensors."""
    written = torch.onnx.export(program, dynamo=True, input_names=inputs, output_names=outputs, verbose=False)
    assert written is not None
    return written.model_proto.SerializeToString()


FORMATS = {"pt2": pt2, "onnx": onnx}


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
    options = parser.parse_args(arguments)
    packages = ("onnx", "onnxscript", "onnxruntime") if options.format == "onnx" else ()
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise UserError(f"--format onnx: {missing[0]} is not installed; pip install -r requirements-export.txt")
    if options.out.exists() and any(options.out.iterdir()) and not options.overwrite:
        raise UserError(f"--out {options.out}: this folder is not empty; name another, or add --overwrite")
    options.device = "cpu"
    options.overrides.append("run.precision=float32")
    segmenter = segmenter_of(options, marked_by(options)[0])
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
    if segmenter.presence_by is not None:
        raise UserError(f"{network.title}: adapted to its supports, it is not exported; export what was adapted")
    is_of_noise = not segmenter.classes
    if is_of_noise:
        segmenter = segmenter.without_classes()
        segmenter.add(None, _noise(segmenter.model.view.side, shots or network.shots_of(network.state_dict()) or 1))
    counts = {len(known.sources) for known in segmenter.classes} | ({shots} if shots else set())
    if len(counts) > 1:
        raise UserError(f"--support, --shots: an export has one number of supports for all classes, not {counts}")
    given = _inputs(segmenter)
    query = given["images"][0, :1].roll(segmenter.model.view.side // 3, -1)  # (1, 3, S, S)
    expected = outputs_of(*segmenter.scores(query))
    # The trace sees other images than the check, which would notice a value that became a constant.
    others = {**given, "images": given["images"].flip(-1), "labels": given["labels"].flip(-1)}
    with alone(out), made_aside(out, run.FACTS) as folder:
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
                tensors = (others, state), ({"query": query.flip(-1), **state}, expected)
                modules = supports, Query(supports, segmenter, example)
                contents = [
                    FORMATS[name](traced(module, [*inputs.values()], name == "onnx"), [*inputs], [*outputs])
                    for module, (inputs, outputs) in zip(modules, tensors, strict=True)
                ]
        except Exception as error:  # the exporters raise many kinds
            said = str(error.__cause__ or error).strip()  # the cause says more
            reason = next(iter(said.splitlines()), type(error).__name__)
            raise UserError(
                f"{network.title}: torch {torch.__version__} cannot export this network as {name} ({reason}); try "
                "another --format or a newer torch"
            ) from None
        for path, content in zip(files.values(), contents, strict=True):
            write_atomically(path, content)
        to_state, to_outputs = (run.graph(path) for path in files.values())
        kept = to_state(*(x.numpy() for x in given.values()))
        found = dict(zip(expected, to_outputs(query.numpy(), *kept)))
        difference = float(np.max([np.abs(x - expected[k].numpy()).max() for k, x in found.items() if k != "margins"]))
        if not difference <= MAX_DIFFERENCE:  # also where it is not a number
            raise UserError(
                f"--out {out}: removed, because its probabilities differ from the network's by {difference:.1e}, "
                f"{MAX_DIFFERENCE:.0e} is allowed; try another --format"
            )
        facts = {"format": name, "files": {part: path.name for part, path in files.items()}, **_facts(segmenter)}
        for part, (inputs, outputs) in zip(PARTS, tensors, strict=True):
            facts[part] = {"inputs": _described(inputs), "outputs": _described(outputs)}
        if not is_of_noise:
            write_atomically(folder / run.STATE, lambda file: np.savez(file, *kept))
            write_atomically(folder / RUN.name, RUN.read_bytes())
        text = json.dumps({**facts, "difference": difference}, indent=1, ensure_ascii=False)
        write_atomically(folder / run.FACTS, text)
        for path in (out / run.STATE, out / RUN.name):
            path.unlink(missing_ok=True)  # of an earlier export
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


def _facts(segmenter: Segmenter) -> dict[str, Any]:
    """Return the entries of the JSON file about network, images and classes."""
    model, known = segmenter.model, segmenter.calibration
    encoder = getattr(model.network, "encoder", None)
    mean, std = (None, None) if encoder is None else encoder.normalisation()
    classes = [
        {"name": one.name, "supports": one.sources, "text": None if one.vector is None else one.vector.tolist()}
        for one in segmenter.classes
    ]
    return {
        **{key: segmenter.facts[key] for key in ("model", "checkpoint", "output", "input")},
        "torch": torch.__version__,
        "licence_of_encoder_weights": encoder_licence(model.context.config, model.network),
        "canvas": {"side": model.view.side, "rule": model.view.rule, "multiple": BLOCK, "label_of_padding": 255},
        "pixels": {"order": "RGB", "range": [0, 255], "normalised_inside": {"mean": mean, "std": std}},
        "classes": classes,
        "calibration": None if known is None else {**asdict(known), "grid": GRID, "quantiles": QUANTILES},
    }


def _described(tensors: dict[str, Tensor]) -> list[dict[str, Any]]:
    return [
        {"name": name, "dtype": str(x.dtype).removeprefix("torch."), "shape": list(x.shape)}
        for name, x in tensors.items()
    ]
