"""The plan of a test: which protocols, shots and seeds, which of them share a pass of the network, on which weights.

Everything that a user can get wrong is met here, before any episode is scored.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from model.contract import FewShotModel
from model.registry import class_of
from util.config.read import to_dict
from util.config.settings import Config, ProtocolSettings
from util.data.datasets import Sampler
from util.data.lists import ImageList
from util.data.manifest import replay
from util.data.views import View
from util.engine import checkpoint
from util.engine.evaluation import Scoreboard
from util.engine.input_size import scored_on, view_of
from util.engine.processes import World
from util.engine.run_context import (
    RunContext,
    fill_encoder,
    load_checkpoint,
    make_run_context,
    network_config,
    new_model,
    run_folder,
    weights_folder,
    with_data,
)
from util.engine.trainer import BEST, LAST
from util.engine.tta import TestTimeAugmentation, with_tta
from util.errors import UserError, nearest

NO_CHECKPOINT = "none"
OWN = {"best": BEST, "last": LAST}  # values of test.checkpoint that name a checkpoint of the run itself
TRAINING_FREE, UNTRAINED, FOREIGN = "training-free", "untrained", "foreign"


@dataclass(frozen=True)
class Request:
    """What a test is asked for beyond its config.

    Attributes:
        protocols: names of entries; none means ``test.protocol``.
        shots: numbers of supports; none means ``data.shot``.
        manifest: a file of episodes: replayed if it exists, else written.
        save_images: kind (worst, best, random) -> how many episodes to draw.
    """

    protocols: tuple[str, ...] = ()
    shots: tuple[int, ...] = ()
    manifest: Path | None = None
    save_images: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Weights:
    """A network for one number of shots and one side, and where its weights came from."""

    network: FewShotModel | TestTimeAugmentation
    source: str
    trained_with: dict[str, Any] | None  # data settings of the training and its `model`'s, if the file says
    digest: str
    note: str = ""  # what the log says of an encoder that no checkpoint filled


@dataclass
class Job:
    """One protocol with one number of shots: what becomes one result."""

    name: str
    protocol: ProtocolSettings
    context: RunContext
    images: ImageList
    view: View
    scored_on: str
    samplers: dict[int, Sampler]  # by seed
    episodes: dict[int, int]
    weights: Weights
    replayed: Path | None = None
    boards: dict[int, Scoreboard] = field(default_factory=dict)
    seconds: float = 0.0
    shared_with: list[str] = field(default_factory=list)

    @property
    def quick_look(self) -> bool:
        """Whether fewer or more episodes are scored than the protocol says, or fewer than a replayed manifest holds."""
        if self.replayed:
            return any(self.episodes[seed] < len(sampler.keys) for seed, sampler in self.samplers.items())
        return is_quick(self.context.config, self.name)

    @property
    def other_seeds(self) -> bool:
        """Whether the seeds are not the protocol's; a replay has those of its manifest."""
        return self.replayed is None and list(self.samplers) != self.protocol.seeds

    @property
    def folder(self) -> Path:
        """Where its result goes."""
        return result_folder(self.context.config, self.name, self.replayed is not None, self.quick_look)


def is_quick(config: Config, name: str) -> bool:
    """Return whether ``test.episodes`` asks for another number of episodes than the protocol's."""
    return config.test.episodes not in (None, config.protocols[name].episodes)


def result_folder(config: Config, name: str, replayed: bool = False, quick: bool | None = None) -> Path:
    """Return where a protocol's result goes: ``test[_5shot]/<protocol>``.

    What is not of the run's best weights, all of the protocol's episodes and its one pass of the network for each lies
    beside it, under a marked name.
    """
    weights = weights_mark(config)
    quick = is_quick(config, name) if quick is None else quick
    averaged = [words.replace(" ", "-") for words in config.test.averaged(config.data.shot)]
    marks = [*averaged, weights, "replay" if replayed else "", "quick" if quick else ""]
    return run_folder(config, "test") / "_".join([name, *filter(None, marks)])


def weights_mark(config: Config) -> str:
    """Return '' if a test scores the run's own best weights, else what marks its result: last, untrained, foreign."""
    if config.test.allow_fold_mismatch:
        return FOREIGN
    source = weights_source(config)
    if isinstance(source, str):
        return source if source == UNTRAINED else ""
    own = weights_folder(config)
    marks = {(own / BEST).resolve(): "", (own / LAST).resolve(): "last"}
    return marks.get(source.resolve(), FOREIGN)


def weights_source(config: Config) -> Path | str:
    """Return the checkpoint that ``test.checkpoint`` means, or why there is none."""
    wanted = config.test.checkpoint
    if not class_of(config.model).learns:
        return TRAINING_FREE
    if wanted == NO_CHECKPOINT:
        return UNTRAINED
    return weights_folder(config) / OWN[wanted] if wanted in OWN else Path(wanted)


def build_test_jobs(config: Config, request: Request, world: World) -> list[Job]:
    """Return the jobs of a request, weights loaded and episodes chosen.

    Raises:
        UserError: whatever does not fit: protocol, shots, manifest, checkpoint, data.
    """
    names, shots = request.protocols or (config.test.protocol,), request.shots or (config.data.shot,)
    for name in names:
        if name not in config.protocols:
            raise UserError(f"protocol '{name}' is unknown{nearest(name, config.protocols)}")
    played = request.manifest if request.manifest is not None and request.manifest.exists() else None
    _check_manifest(request.manifest, played, len(names) * len(shots))
    jobs: list[Job] = []
    weights: dict[tuple[int, int], Weights] = {}
    for shot in dict.fromkeys(shots):
        for name in dict.fromkeys(names):
            context = make_run_context(own_config(config, name, shot))
            with world.main_first():
                images = context.test_images(world.is_main)
            jobs.append(_job(context, images, name, played, weights))
    return jobs


def own_config(config: Config, name: str, shot: int) -> Config:
    """Return the config that repeats one job alone."""
    out = with_data(config, shot=shot)
    out.test = replace(out.test, protocol=name)
    return out


def _check_manifest(path: Path | None, played: Path | None, jobs: int) -> None:
    if path is None or played is not None:
        return
    if jobs > 1:
        raise UserError(
            f"--manifest {path}: a new manifest takes one protocol and one number of shots; "
            "with several, take episodes.jsonl from each result's folder"
        )
    if not path.parent.is_dir():
        raise UserError(f"--manifest {path}: folder {path.parent} does not exist; make it first")


def _job(
    context: RunContext, images: ImageList, name: str, played: Path | None, weights: dict[tuple[int, int], Weights]
) -> Job:
    config, protocol = context.config, context.config.protocols[name]
    view, wanted = view_of(config, protocol), config.test.episodes
    if played:
        samplers: dict[int, Sampler] = dict(replay(played, images, config.data))
        episodes = {seed: min(len(s.keys), wanted or len(s.keys)) for seed, s in samplers.items()}
    else:
        seeds = protocol.seeds if config.test.seeds is None else config.test.seeds
        samplers = {seed: context.test_sampler(images, protocol, seed) for seed in seeds}
        episodes = dict.fromkeys(samplers, wanted or protocol.episodes)
    key = config.data.shot, view.side
    if key not in weights:
        of_network = replace(context, config=network_config(config))
        loaded = load_weights(of_network, view.side or None)
        weights[key] = replace(loaded, network=with_tta(loaded.network, of_network, view, config.data.shot))
    return Job(
        name, protocol, context, images, view, scored_on(view, protocol), samplers, episodes, weights[key], played
    )


def load_weights(context: RunContext, side: int | None = None) -> Weights:
    """Return the network of ``test.checkpoint``, built for images of ``side`` (default ``data.size``).

    Raises:
        UserError: the checkpoint is missing, damaged, or of another model, data set, fold or number of shots.
    """
    config, wanted = context.config, context.config.test.checkpoint
    network, source = new_model(context, side), weights_source(config)
    if source == TRAINING_FREE and wanted not in (*OWN, NO_CHECKPOINT):
        raise UserError(f"{wanted}: this model learns nothing and loads no checkpoint; leave it out")
    note = ""
    if isinstance(source, str):
        note, trained_with = fill_encoder(context, network), None
    else:
        content = load_checkpoint(context, network, "meta", source).get("config", {})
        trained_with = {**content["data"], "model": content["model"]} if content else None
        changed = checkpoint.changed_settings(content["model"], to_dict(config)["model"]) if content else []
        note = f"the model was trained with other settings: {', '.join(changed)}" if changed else ""
    return Weights(network, str(source), trained_with, checkpoint.digest(network), note)


@dataclass(frozen=True)
class Pass:
    """Jobs whose episodes of one seed and whose inputs are the same: the network runs once for all of them."""

    jobs: tuple[Job, ...]
    seed: int

    @property
    def episodes(self) -> int:
        """How many episodes the longest of the jobs has; all begin with the same ones."""
        return max(job.episodes[self.seed] for job in self.jobs)

    @property
    def title(self) -> str:
        """What the progress bar says."""
        names = "+".join(job.name for job in self.jobs)
        return f"{names} {self.jobs[0].context.config.data.shot}-shot seed {self.seed}"


def passes(jobs: list[Job]) -> list[Pass]:
    """Return the passes that cover every seed of every job, each shared by as many jobs as can be."""
    groups: dict[tuple, list[Job]] = {}
    for job in jobs:
        rule = "manifest" if job.replayed else (job.protocol.query, job.protocol.supports)
        for seed in job.samplers:
            groups.setdefault((job.context.config.data.shot, job.view, rule, seed), []).append(job)
    return [Pass(tuple(members), key[-1]) for key, members in groups.items()]
