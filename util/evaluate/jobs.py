"""The jobs of a test: each protocol with each number of shots, on which weights, and which jobs share a pass.

Every mistake that a user can make is found here, before any episode is scored.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

from util.checkpoints.weights import Weights, load_weights, weights_mark
from util.config.settings import MASKS, Config, ProtocolSettings
from util.data.episodes import Sampler
from util.data.images.views import View
from util.data.lists.image_list import ImageList
from util.data.lists.manifest import ListedEpisodes, replay
from util.errors import UserError, nearest
from util.evaluate.calibration import Calibration, find_calibration
from util.evaluate.evaluate import Scoreboard
from util.evaluate.kept_predictions import KeptPredictions
from util.evaluate.tta import with_tta
from util.run.context import RunContext, make_run_context, network_config, with_data, with_test
from util.run.data import check_sampler, images_for_test, protocol_sampler
from util.run.folders import run_folder
from util.run.input_size import scored_on, view_of
from util.run.network import PreparedNetwork, prepare_network
from util.run.processes import World


@dataclass(frozen=True)
class Request:
    """The options of a test beyond its config.

    Attributes:
        protocols: names of entries, or ``all``, those of one class per episode that fit; none means ``test.protocol``.
        shots: numbers of supports; none means ``data.shot``.
        manifest: a file of episodes: replayed if it exists, else written.
        save_images: kind (worst, best, random) -> number of episodes to draw.
        figures: the format of every picture: png, or pdf or svg beside it.
    """

    protocols: tuple[str, ...] = ()
    shots: tuple[int, ...] = ()
    manifest: Path | None = None
    save_images: dict[str, int] = field(default_factory=dict)
    figures: str = "png"


log = logging.getLogger("symnet")
ALL = "all"
# (shots, image side) -> the network of a job and the record of its weights
Networks = dict[tuple[int, int], tuple[PreparedNetwork, Weights]]


@dataclass
class Job:
    """One protocol with one number of shots, which gives one result.

    Attributes:
        scored_on: the label that predictions are compared with: letterbox, square or original.
        samplers: of the episodes, by seed.
        episodes: the number of episodes, by seed.
        prepared: the network, for the view's image side.
        calibration: of the network, where the protocol asks whether queries show their class.
        replayed: the manifest whose episodes these are, None for the protocol's own.
        boards: the counts, by seed.
        kept: the predictions that pictures will show, None without pictures.
        shared_with: names of the protocols scored in the same passes.
    """

    name: str
    protocol: ProtocolSettings
    context: RunContext
    images: ImageList
    view: View
    scored_on: str
    samplers: dict[int, Sampler]
    episodes: dict[int, int]
    prepared: PreparedNetwork
    weights: Weights
    calibration: Calibration | None = None
    replayed: Path | None = None
    boards: dict[int, Scoreboard] = field(default_factory=dict)
    kept: KeptPredictions | None = None
    seconds: float = 0.0
    shared_with: list[str] = field(default_factory=list)

    @property
    def quick_look(self) -> bool:
        """Whether the number of scored episodes is not the protocol's, or is below that of a replayed manifest."""
        if self.replayed:
            listed = {s: len(x.keys) for s, x in self.samplers.items() if isinstance(x, ListedEpisodes)}
            return any(self.episodes[seed] < count for seed, count in listed.items())
        return is_quick(self.context.config, self.name)

    @property
    def ways(self) -> int:
        """N, the number of classes of an episode."""
        return self.protocol.ways

    @property
    def other_seeds(self) -> bool:
        """Whether the seeds are not the protocol's; a replay has those of its manifest."""
        return self.replayed is None and list(self.samplers) != self.protocol.seeds

    @property
    def folder(self) -> Path:
        """The folder of its result."""
        return result_folder(self.context.config, self.name, self.replayed is not None, self.quick_look)


def is_quick(config: Config, name: str) -> bool:
    """Return whether ``test.episodes`` asks for another number of episodes than the protocol's."""
    return config.test.episodes not in (None, config.protocols[name].episodes)


def result_folder(config: Config, name: str, replayed: bool = False, quick: bool | None = None) -> Path:
    """Return the folder of a protocol's result: ``test[_5shot]/<protocol>``.

    A result of other weights than the run's best, of another number of episodes, or of several passes per episode goes
    to a folder beside it whose name says so.
    """
    weights = weights_mark(config)
    quick = is_quick(config, name) if quick is None else quick
    averaged = [words.replace(" ", "-") for words in config.test.averaged(config.data.shot)]
    marks = [*averaged, weights, "replay" if replayed else "", "quick" if quick else ""]
    return run_folder(config, "test") / "_".join([name, *filter(None, marks)])


def build_test_jobs(config: Config, request: Request, world: World, networks: Networks | None = None) -> list[Job]:
    """Return the jobs of a request, weights loaded and episodes chosen; ``networks`` are those that are there already.

    Raises:
        UserError: a protocol, a number of shots, the manifest, the checkpoint or the data does not fit.
    """
    if request.protocols == (ALL,):
        return _all_jobs(config, request, world)
    names, shots = request.protocols or (config.test.protocol,), request.shots or (config.data.shot,)
    for name in names:
        if name not in config.protocols:
            raise UserError(f"protocol '{name}' is unknown{nearest(name, config.protocols)}")
    if config.test.fuse == MASKS and max(shots) == 1:
        raise UserError("test.fuse = masks has no effect with one shot; take --shot 5, or leave it out")
    played = request.manifest if request.manifest is not None and request.manifest.exists() else None
    _check_manifest(request.manifest, played, len(names) * len(shots))
    jobs: list[Job] = []
    networks = {} if networks is None else networks
    lists: dict[tuple[int, str | None], ImageList] = {}  # by number of shots and published list
    for shot in dict.fromkeys(shots):
        for name in dict.fromkeys(names):
            context = make_run_context(own_config(config, name, shot))
            protocol = None if played else config.protocols[name]
            key = shot, None if protocol is None else protocol.list_file
            if key not in lists:
                with world.main_first():
                    lists[key] = images_for_test(context, world.is_main, protocol)
            jobs.append(_job(context, world, lists[key], name, played, networks))
    return jobs


def _all_jobs(config: Config, request: Request, world: World) -> list[Job]:
    """Return the jobs of every protocol of one class per episode that fits model and data; log the others."""
    jobs: list[Job] = []
    networks: Networks = {}
    for name, protocol in config.protocols.items():
        if protocol.ways > 1 or protocol.absent > 0:
            continue
        try:
            jobs += build_test_jobs(config, replace(request, protocols=(name,)), world, networks)
        except UserError as error:
            log.info("left out: %s: %s", name, error)
    if not jobs:
        raise UserError(f"{config.path}: no protocol fits this model and data set")
    return jobs


def own_config(config: Config, name: str, shot: int) -> Config:
    """Return the config that repeats one job alone."""
    return with_test(with_data(config, shot=shot), protocol=name)


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
    context: RunContext, world: World, images: ImageList, name: str, played: Path | None, networks: Networks
) -> Job:
    config, protocol = context.config, context.config.protocols[name]
    view, wanted = view_of(config, protocol), config.test.episodes
    samplers: dict[int, Sampler]
    if played:
        listed = replay(played, images, config.data, protocol.ways, protocol.absent > 0)
        samplers = dict(listed)
        episodes = {seed: min(len(s.keys), wanted or len(s.keys)) for seed, s in listed.items()}
    else:
        seeds = protocol.seeds if config.test.seeds is None else config.test.seeds
        drawn = {seed: protocol_sampler(context, images, protocol, seed) for seed in seeds}
        check_sampler(images, drawn[seeds[0]], name, f"fold {config.data.fold} of {config.data.name}")
        samplers = dict(drawn)
        episodes = dict.fromkeys(samplers, wanted or protocol.episodes)
    if protocol.absent > 0 and config.test.averaged(config.data.shot):
        raise UserError(
            f"protocol {name}: its presence scores are calibrated for one pass of the network; leave out test.flip, "
            "test.scales and test.fuse"
        )
    key = config.data.shot, view.side
    if key not in networks:
        of_network = replace(context, config=network_config(config))
        model, weights = load_weights(of_network, view.side or None)
        network = with_tta(model, of_network, view, config.data.shot)
        networks[key] = prepare_network(network, world.device, config.run.precision, config.run.compile), weights
    return Job(
        name,
        protocol,
        context,
        images,
        view,
        scored_on(view, protocol),
        samplers,
        episodes,
        *networks[key],
        calibration=_calibration(config, name, networks[key][1]) if protocol.absent > 0 else None,
        replayed=played,
    )


def _calibration(config: Config, protocol: str, weights: Weights) -> Calibration | None:
    found = find_calibration(config, weights.source, weights.digest)
    if found is None:
        log.info(
            "%s: no calibration of these weights: every mask is shown; for one: python test.py CONFIG --calibrate",
            protocol,
        )
    return found


@dataclass(frozen=True)
class Pass:
    """Jobs with the same episodes of one seed and the same inputs: the network runs once for all of them."""

    jobs: tuple[Job, ...]
    seed: int

    @property
    def episodes(self) -> int:
        """The number of episodes of the longest job; all jobs begin with the same episodes."""
        return max(job.episodes[self.seed] for job in self.jobs)

    @property
    def title(self) -> str:
        """The label of the progress bar."""
        names = "+".join(job.name for job in self.jobs)
        return f"{names} {self.jobs[0].context.config.data.shot}-shot seed {self.seed}"


def passes(jobs: list[Job]) -> list[Pass]:
    """Return the fewest passes that cover every seed of every job."""
    groups: dict[tuple, list[Job]] = {}
    for job in jobs:
        rule = (
            "manifest" if job.replayed else (job.protocol.query, job.protocol.supports, job.ways, job.protocol.absent)
        )
        for seed in job.samplers:
            key = job.context.config.data.shot, job.view, rule, job.images.digest, seed
            groups.setdefault(key, []).append(job)
    return [Pass(tuple(members), key[-1]) for key, members in groups.items()]
