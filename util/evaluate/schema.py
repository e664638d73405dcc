"""A test's result file, ``result.json``: its keys and their types, the check of files, and the definition of scores.

A result's track is the data that its method learnt from. Numbers of one protocol but of different tracks are not
comparable.
"""

import math
import statistics
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from util.config.place import RESULT, folder_and_name, run_of
from util.config.same import known_keys
from util.config.settings import ProtocolSettings
from util.files.errors import UserError, as_user_error
from util.files.reading import read_json
from util.files.typecheck import Misfit, convert
from util.loop.mask_metrics import ScoreFacts

NOT_STATED = "not stated"
SCHEMA: Literal["sym-net-result/1"] = "sym-net-result/1"
MANIFEST = "episodes.jsonl"  # beside a result
SCORED_ON = {"letterbox": "size of the input", "square": "square", "original": "original size"}  # in words
# In percent: miou, the mean of the classes; fb_iou, the mean of foreground and background, of two-channel outputs. A
# further metric adds its own key, and one for its values by class.
Scores = dict[str, float]
SeedScores = dict[str, dict[str, Any]]  # of one seed, by output


class Track(TypedDict):
    """The data that a method learnt from; null: not known."""

    encoder_data: str | None  # of its encoder's first weights; empty without an encoder
    text: bool | None  # whether class names, or vectors of them, were read
    training: str | None  # in-domain (base classes of the tested data set), none, or another data set's name
    novel_photos: Literal["removed", "kept"] | None  # photos of the training that show novel classes
    train_shot: int | None  # number of shots of its training


class InSome(TypedDict, total=False):
    """The entries that only results of later or of former versions have."""

    vectors: str | None  # SHA-256 of the text vectors; null: none are read
    # of the main process of its training, base stage included: processor_minutes, peak_mib; {}: not known
    cost: dict[str, float]
    finished: bool  # whether the training of the weights came to its end
    metrics: dict[str, ScoreFacts]  # of each further metric (test.metrics)
    protocol_changes: list[str]  # what the protocol has otherwise than the project's of its name, in words
    classes_trained_on: list[str]  # names of the tested classes that the weights were trained on
    shared_with: list[str]  # until version 0.3: protocols scored on the same passes of the network, in these minutes
    fold_mismatch: bool  # until version 0.3: weights of another fold, by which novel classes may have been trained on


class Subject(TypedDict):
    """The test, data set and method of a result."""

    protocol: str  # name of the entry
    protocol_settings: dict[str, Any]  # the entry
    shot: int
    dataset: str
    fold: int
    folds: int
    fold_rule: str  # contiguous or interleaved: part of the protocol's full name
    size: int  # data.size
    min_pixels: int  # least pixels of a class that is present in an image
    text: str
    model: str
    backbone: str | None
    method: str  # the model's name as people write it, such as Sym-Net
    encoder: str  # the encoder's, such as ResNet-50; empty for a model without one
    run: str
    checkpoint: str  # file, or: untrained, training-free
    weights_mark: str  # part of the folder's name: last, untrained or foreign; empty: the run's own best weights
    code: dict[str, str] | None  # module of the method's code, or folder of the code that methods share -> SHA-256
    config: dict[str, Any]  # merged


class Procedure(TypedDict):
    """How a test scored its episodes."""

    input: str  # sizing of the network's input in words; says so if it departs from the protocol
    input_side: int | None  # side of the network's square input in pixels; null for original sizes
    scored_on: Literal["letterbox", "square", "original"]
    quick_look: bool  # another number of episodes than the protocol's or the manifest's: not to be quoted
    other_seeds: bool  # test.seeds are not the protocol's: not the protocol's number
    replayed: str | None  # manifest whose episodes were scored instead of the protocol's own
    episodes: int  # per seed
    seeds: list[int]


class Trained(TypedDict):
    """The weights of a test, and how they were trained."""

    exclude_novel: bool  # whether training omitted images that show novel classes
    encoder_licence: str | None  # of the weights that the encoder started from, where it is known
    weights: str  # SHA-256 of the network's named tensors
    parameters: int  # of the network
    learnt_parameters: int  # of them in its last training
    trained_with: dict[str, Any] | None  # data and model settings of the training, if known
    training: list[dict[str, Any]]  # of each stage of the weights: steps, batch, size, seed, list, settings, precision
    trained_otherwise: list[str]  # settings of ``config`` that the training of the run's own weights did not have
    track: Track


class Scored(TypedDict):
    """The list and the episodes of a test."""

    novel: dict[str, str]  # class id -> name
    list: str  # SHA-256 of the test list and its candidates
    list_images: int
    content: str  # SHA-256 of the names and contents of the list's photos and masks
    whole_list: str | None  # SHA-256 of the data set's whole test list, of which the fold's is a part
    whole_content: str | None  # and of the names and contents of its photos and masks
    # test photos that the weights, base stage included, were trained on, told by their contents; null: not known
    photos_trained_on: int | None
    photos_listed: int | None  # test photos that the data set's training list names too; null: it is not there
    list_source: str  # path of the list file (the protocol's list_file), or: made from the masks
    list_note: str  # why the protocol's published list was not used, or what was left out of it; empty: as published
    # why the episodes are not those of the published runs whose draw the protocol names; empty: they are
    draw_note: str
    classes_without_episodes: int  # novel classes of the list that no episode has: they are in no mean
    left_out: list[str]  # novel classes omitted for too few images (data.rare_classes: skip)
    episode_digests: list[str]  # SHA-256 of each seed's episodes, by image names
    manifest: str  # file beside this one: every episode with its intersection and union


class Computation(TypedDict):
    """When, on what and how long a test was computed."""

    device: str
    processes: int
    precision: str  # that the test was computed in: float32, tf32, bf16 or fp16
    batch: int
    date: str  # ISO 8601, UTC
    minutes: float  # of scoring
    environment: dict[str, Any]  # commit, versions, machine, command


class OverSeeds(TypedDict):
    """The scores of each output over the seeds."""

    mean: dict[str, Scores]
    deviation: dict[str, Scores]  # standard deviation over seeds (of a sample: n - 1); 0 with one seed


class Result(InSome, Subject, Procedure, Trained, Scored, OverSeeds, Computation):
    """A result of one model, protocol, number of shots and fold."""

    schema: Literal["sym-net-result/1"]
    # the scores: output -> ...
    # in the order of seeds; with class id -> IoU or further metric of its foreground (``per_class``)
    per_seed: list[dict[str, dict[str, float | dict[str, float]]]]


def check_result(content: Any, source: object) -> Result:
    """Return a result after checking it against the schema.

    UserError: names the first key that is missing, unknown or of the wrong type.
    """
    with as_user_error(
        Misfit, before=f"{source}: is no result of a test (", after="); score the run again with test.py"
    ):
        result = cast(Result, convert(Result, content, ""))
        _check_sections(result)
        _check_scores(result)
        return result


def _check_sections(result: Result) -> None:
    """Refuse (Misfit) a result whose config lacks sections, or whose protocol is none."""
    for name in ("data", "model", "run", "test"):
        convert(dict, result["config"].get(name), f"config.{name}")
    convert(dict[str, dict], result["config"].get("protocols", {}), "config.protocols")
    for stage in result["training"]:
        convert(int | None, stage.get("seed"), "training.seed")
    settings = known_keys(result["protocol_settings"], ProtocolSettings)
    needed = dict.fromkeys(("query", "episodes", "seeds"), "missing")
    settings |= {"query": ProtocolSettings.query} if "query" in settings else {}  # it may be a sampler of others
    convert(ProtocolSettings, {**needed, **settings}, "protocol_settings", as_yaml=True)


def _check_scores(result: Result) -> None:
    """Refuse (Misfit) a result whose scores are no numbers (by class: sections), or not of all seeds and outputs."""
    per_seed = result["per_seed"]
    if not len(result["seeds"]) == len(per_seed) > 0:
        raise Misfit("per_seed", f"per_seed has {len(per_seed)} items for {len(result['seeds'])} seeds")
    for output in chain.from_iterable(scores.values() for scores in per_seed):
        for key, value in output.items():
            convert(dict if key.startswith("per_class") else float, value, key)
    same_outputs = all(scores.keys() == result["mean"].keys() for scores in per_seed)
    if not same_outputs or _keys(over_seeds(per_seed)) != _keys({key: result[key] for key in ("mean", "deviation")}):
        raise Misfit("mean", "mean and deviation are not of the outputs and scores of per_seed")


def _keys(value: Any) -> Any:
    """Return nested dictionaries without their values."""
    return {key: _keys(part) for key, part in value.items()} if isinstance(value, dict) else None


def read_result(path: Path) -> Result:
    """Return the result of a file, as of the run that it lies in; raises as ``read_json`` and ``check_result`` do."""
    result = check_result(read_json(path, "this result", "score the run again with test.py"), path)
    if run := run_of(path):
        _, result["run"] = folder_and_name(run, result["run"])
    return result


def find_results(paths: list[Path]) -> list[Path]:
    """Return the result files among paths and in folders at any depth, each once, sorted.

    UserError: a path does not exist, or none holds a result.
    """
    files = {file for path in paths for file in ([path] if path.is_file() else path.rglob(RESULT))}
    missing = [path for path in paths if not path.exists()] if files else paths
    if missing:
        raise UserError(f"{', '.join(map(str, missing))}: no {RESULT} here; score a run first: python test.py CONFIG")
    return sorted(files)


def over_seeds(per_seed: Sequence[SeedScores]) -> OverSeeds:
    """Return mean and standard deviation (of a sample; 0 with one seed) over seeds of every output's scores."""
    deviation_of = statistics.stdev if len(per_seed) > 1 else statistics.pstdev
    mean: dict[str, Scores] = {}
    deviation: dict[str, Scores] = {}
    for output, first in per_seed[0].items():
        mean[output], deviation[output] = {}, {}
        for key in first:
            values: list[Any] = [scores[output].get(key) for scores in per_seed]
            if all(isinstance(value, int | float) for value in values):
                mean[output][key] = statistics.mean(values)
                deviation[output][key] = deviation_of(values) if all(map(math.isfinite, values)) else math.nan
    return {"mean": mean, "deviation": deviation}
