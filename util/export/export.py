"""Export a network as two files that run without this project, and a JSON file that describes them.

``supports`` turns the supports of every class into a state of fixed size; ``query`` turns queries and that state into
probabilities. Sizes are fixed but for the number of queries. Images are float32, RGB in 0..255; the photo's longer side
is resized to S (both sides rounded down to whole multiples of 8, bilinear) and lies at the top left, the rest is 0 (in
labels 255). Probabilities are (B, n + 1, S, S), background first; crop the padding and resize to the photo.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from util.checkpoints.weights import encoder_licence
from util.data.images.views import BLOCK
from util.errors import UserError
from util.export.exportable import CheckEpisode, Exportable
from util.export.formats import BATCH, FORMATS, PROBABILITIES, Format, quiet
from util.export.graphs import QUERY_NAME, STATE_NAME, cut
from util.files import write_atomically
from util.predict.options import segmenter_of
from util.predict.results import facts_of
from util.predict.segmenter import Segmenter
from util.prepare.staging import made_aside

FACTS = "export.json"
SUPPORTS, QUERY = "supports", "query"  # names of the files
CPU, FLOAT32 = "cpu", "float32"
MAX_DIFFERENCE = 1e-4  # of a probability, between the exported files and the network
BATCHES = (1, 3)  # queries in the batches of the check


def export(options: argparse.Namespace) -> int:
    """Write the folder that a command line describes, and return the exit code 0.

    Raises:
        UserError: the command line, a file or the disk; the model cannot be exported in this format; or the files'
            probabilities differ from the network's.
    """
    kind = FORMATS[options.format]
    kind.check_packages(options.format)
    if options.out.exists() and any(options.out.iterdir()) and not options.overwrite:
        raise UserError(f"--out {options.out}: this folder is not empty; name another, or add --overwrite")
    if options.device not in (None, CPU):
        raise UserError(f"--device {options.device}: exports are made on the cpu, and run on other devices")
    overrides = [*options.overrides, f"run.precision={FLOAT32}"]
    segmenter = segmenter_of(argparse.Namespace(**{**vars(options), "device": CPU, "overrides": overrides}))
    for note in segmenter.notes:
        print(note)
    difference = write_export(segmenter, options.out, options.format, options.shots)
    print(f"{options.out}: differs from the network by {difference:.1e} at most, of {MAX_DIFFERENCE:.0e} allowed")
    return 0


def write_export(segmenter: Segmenter, out: Path, name: str, shots: int | None = None) -> float:
    """Write a segmenter's folder; return the largest difference of a probability, on the check's episodes.

    Raises:
        UserError: the model cannot be exported, the disk is full, or the files' probabilities differ from the
            network's.
    """
    title, kind = segmenter.model.network.title, FORMATS[name]
    if (reason := segmenter.model.network.cannot_export) is not None:
        raise UserError(f"{title}: cannot be exported: {reason}")
    network = Exportable(segmenter, shots)
    noise, given = network.noise(), network.given()
    with made_aside(out, FACTS) as folder:
        files = {part: folder / f"{part}{kind.suffix}" for part in (SUPPORTS, QUERY)}
        try:
            with quiet(), torch.no_grad():
                graphs = cut(network, *noise)
                state = graphs.supports(*noise.supports.values())
                content = {
                    SUPPORTS: kind.supports_file(graphs.supports, [*noise.supports.values()]),
                    QUERY: kind.query_file(graphs.query, [noise.query, *state]),
                }
        except Exception as error:  # the exporters raise many kinds
            said = str(error.__cause__ or error).strip()  # the cause says more
            reason = next(iter(said.splitlines()), type(error).__name__)
            raise UserError(
                f"{title}: torch {torch.__version__} cannot export this network as {name} ({reason}); try another "
                "--format or a newer torch"
            ) from None
        for part, path in files.items():
            write_atomically(path, content[part])
        differences = [_difference(network, kind, files, e) for e in (noise, given) if e is not None]
        if not max(differences) <= MAX_DIFFERENCE:
            raise UserError(
                f"--out {out}: removed, because its probabilities differ from the network's by {max(differences):.1e}, "
                f"{MAX_DIFFERENCE:.0e} is allowed; try another --format"
            )
        facts = {**_facts(network, name, files, noise.supports.get("text")), **_tensors(noise, state)}
        facts["difference"] = max(differences)
        write_atomically(folder / FACTS, json.dumps(facts, indent=1, ensure_ascii=False))
    for part, other in product((SUPPORTS, QUERY), FORMATS.values()):
        if other is not kind:  # of an earlier export
            (out / f"{part}{other.suffix}").unlink(missing_ok=True)
    return max(differences)


@torch.no_grad()
def _difference(network: Exportable, kind: Format, files: dict[str, Path], episode: CheckEpisode) -> float:
    """Return the largest difference of a probability between files and network, for batches of ``BATCHES`` queries."""
    with quiet():
        to_state, to_probabilities = (kind.runner(files[part]) for part in (SUPPORTS, QUERY))
    state = to_state(*episode.supports.values())
    queries = torch.stack([episode.query.roll(shift, -1) for shift in range(max(BATCHES))])
    expected = torch.stack([network(query, **episode.supports) for query in queries])
    found = [to_probabilities(queries[:count].contiguous(), *state)[0] for count in BATCHES]
    differences = [(f - expected[: len(f)]).abs().max() for f in found]
    return float(torch.stack(differences).max())  # not a number if one is not


def _facts(network: Exportable, name: str, files: dict[str, Path], text: Tensor | None) -> dict[str, Any]:
    """Return the entries of the JSON file about network and images; ``text`` holds the classes' vectors (n, T)."""
    segmenter = network.segmenter
    model, config = segmenter.model, segmenter.model.context.config
    encoder = getattr(model.network, "encoder", None)
    mean, std = (None, None) if encoder is None else encoder.normalisation()
    sources = {known.name: known.sources for known in segmenter.classes}
    return {
        "format": name,
        "files": {part: path.name for part, path in files.items()},
        **{key: facts_of(segmenter)[key] for key in ("model", "checkpoint", "output", "input")},
        "torch": torch.__version__,
        "encoder": config.model.backbone(),
        "licence_of_encoder_weights": encoder_licence(config, model.network),
        "canvas": {"side": model.view.side, "rule": model.view.rule, "multiple": BLOCK, "label_of_padding": 255},
        "pixels": {"order": "RGB", "range": [0, 255], "normalised_inside": {"mean": mean, "std": std}},
        "shots": network.shots,
        "classes": [
            {"name": slot, "supports": sources.get(slot, []), "text": None if text is None else text[i].tolist()}
            for i, slot in enumerate(network.names)
        ],
        "channels": ["background", *network.names],
        "tolerance": MAX_DIFFERENCE,
    }


def _tensors(episode: CheckEpisode, state: Iterable[Tensor]) -> dict[str, Any]:
    """Return the entries of the JSON file about inputs and outputs of both files."""
    supports = [_described(name, x) for name, x in episode.supports.items()]
    between = [_described(STATE_NAME.format(i), x) for i, x in enumerate(state)]
    count, side = len(episode.supports["images"]) + 1, episode.query.shape[-1]
    query = {"name": QUERY_NAME, "dtype": FLOAT32, "shape": [BATCH, *episode.query.shape]}
    answer = {"name": PROBABILITIES, "dtype": FLOAT32, "shape": [BATCH, count, side, side]}
    return {
        SUPPORTS: {"inputs": supports, "outputs": between},
        QUERY: {"inputs": [query, *between], "outputs": [answer]},
    }


def _described(name: str, x: Tensor) -> dict[str, Any]:
    return {"name": name, "dtype": str(x.dtype).removeprefix("torch."), "shape": list(x.shape)}
