"""``train.sh`` and ``test.sh``: their words, their configs, and whole runs as a user types them."""

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from torch.distributed import run as torch_run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

import test as scoring
import train
from model.encoders.settings import EncoderSettings, build_encoder
from tests.cli.test_commands import snapshot
from tests.helpers import spawned
from tests.helpers.narrow import NARROW
from tests.helpers.paths import REPOSITORY
from tests.helpers.read import config_of, json_of, write_json
from util import cli, launch
from util.config.compose import find_config
from util.config.read import read_config
from util.data.mini import generate
from util.files.errors import Refusals, UserError
from util.launch import read_words
from util.loop.optim import StepSchedule
from util.run import disk
from util.run.begin import Asked, stage_of, stages_asked
from util.run.build import build_model
from util.run.folder import BEST, ENVIRONMENT, LAST
from util.run.rehearsal import dry_run
from util.run.run import Run
from util.train import stages
from util.weights import checkpoint

# A data set of tiny photos through the real scripts and the real config, shortened by overrides.
SHORT = {"model.encoder.backbone": NARROW, "data.size": 33, "data.min_pixels": 100}
SHORT |= {"base_stage.size": 33, "base_stage.epochs": 1, "base_stage.batch": 8, "base_stage.validate_episodes": 4}
SHORT |= {"meta_stage.epochs": 1, "meta_stage.batch": 4, "meta_stage.epoch_length": 16}
SHORT |= {"test.episodes": 4, "test.seeds": [0]}


def as_options(settings: dict[str, object]) -> list[str]:
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture
def handlers() -> Iterator[None]:
    """Restore the handlers of the signals that end a command."""
    before = {number: signal.getsignal(number) for number in cli.STOPS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_words_after_the_gpus_are_text_vectors_and_a_checkpoint_in_either_order() -> None:
    for words in (["glove", "a.pth"], ["a.pth", "glove"]):
        fixed = ["split0", "pascal", "--set", "run.device=cpu", "--set", "data.text=glove"]
        assert read_words("train", ["split0", "pascal", "0", *words]) == (1, [*fixed, "--checkpoint", "a.pth"])
        assert read_words("test", ["split0", "pascal", "0", *words]) == (1, [*fixed, "--set", "test.checkpoint=a.pth"])
    assert read_words("train", ["split0", "pascal", "4"]) == (4, ["split0", "pascal", "--set", "run.device=cuda"])
    with pytest.raises(UserError, match="text vectors and a checkpoint at most"):
        read_words("test", ["split0", "pascal", "0", "runs/lr=0.1/best.pth", "b.pth"])
    with pytest.raises(UserError, match="neither a file of text vectors"):
        read_words("train", ["split0", "pascal", "0", str(REPOSITORY / "README.md")])


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["split0", "pascal", "8", "--dry-run"], ["split0", "pascal", "--set", "run.device=cuda", "--dry-run=8"]),
        (["split0", "pascal", "--dry-run"], ["split0", "pascal", "--dry-run=1"]),
        (["--list"], ["--list"]),
    ],
)
def test_what_needs_no_gpu_is_one_process(words: list[str], given: list[str], monkeypatch) -> None:
    """A dry run counts with the processes of the training."""
    called = Mock(side_effect=SystemExit)
    monkeypatch.setattr(launch, "run_here", called)
    monkeypatch.setattr(sys, "argv", ["launch", "train", *words])
    with pytest.raises(SystemExit):
        launch.main()
    called.assert_called_once_with("train", given)


@pytest.mark.process
@pytest.mark.parametrize("script", ["train", "test"])
def test_help_names_all_options_of_a_script(script: str, monkeypatch):
    """The shell script prints its own head, without Python."""
    parsers = []
    monkeypatch.setattr(cli.Parser, "parse_args", lambda self, *_: parsers.append(self) or sys.exit())
    with pytest.raises(SystemExit):
        {"train": train.command, "test": scoring.command}[script]()
    words = ["sh", REPOSITORY / f"{script}.sh", "split0", "--help"]
    text = subprocess.run(words, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}).stdout
    options = {name for action in parsers[0]._actions for name in action.option_strings}
    assert {"MODEL", "GPUS"} <= set(re.findall(r"\w+", text))
    elsewhere = {"-h", "--help", "--model", "--net", "--checkpoint"}
    assert set(re.findall("^  (--[a-z-]+)", text, re.MULTILINE)) == options - elsewhere


LR = "meta_stage.optimizers.main.lr"


@pytest.mark.parametrize(("stage", "trained_by"), [("base", "tiny"), ("base", "another"), ("meta", "tiny")])
def test_a_setting_of_a_training_is_kept_by_each_resume(
    stage: str, trained_by: str, mini_config, tmp_path: Path
) -> None:
    """Of a base stage that runs share, and of a stage without a checkpoint yet."""
    config = mini_config("bam", run={"base_folder": f"{tmp_path}/base"})
    folder = Run(config).folder(stage)
    folder.mkdir(parents=True)
    write_json(folder / ENVIRONMENT, {"options": [f"{LR}=0.5"], "run": trained_by})
    run, stages = stages_asked(config, Asked(resume=True))
    assert (f"{LR}=0.5" in run.config.given) == (trained_by == "tiny") and stages == ["base", "meta"]


def schedule(dataset: str, method: str, stage: str, processes: int) -> StepSchedule:
    config = config_of("split0", dataset, method, "resnet50")
    return StepSchedule.from_settings(getattr(config, stage), 3200, processes, stage)


def test_a_batch_that_processes_cannot_split_is_refused():
    """Of 12 images in all a process takes two in the base stage, one episode in the meta stage."""
    assert schedule("pascal", "symnet", "base_stage", 6).batch == 12
    for method, stage, most in (("symnet", "base", 6), ("ssp", "meta", 4)):
        with pytest.raises(UserError, match=rf"or {most} GPUs in all for it \(--stage {stage}\)"):
            schedule("pascal", method, f"{stage}_stage", 8)


@pytest.mark.parametrize(
    ("dataset", "method", "total"),
    [
        *(("pascal", "symnet", 32), ("coco", "symnet", 32), ("pascal", "hdmnet", 16)),
        *(("coco", "hdmnet", 24), ("pascal", "dcama", 48)),
    ],
)
def test_the_published_batch_holds_on_any_number_of_gpus(dataset: str, method: str, total: int):
    for gpus in (1, 2, 3, 4, 8):
        found = schedule(dataset, method, "meta_stage", gpus)
        assert (found.batch, found.steps_per_epoch) == (total, 3200 // total)


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["train", "split0", "pascal"], "EXPERIMENT DATASET GPUS"),
        (["train", "split0", "pascal", "two"], "'two' is no number of GPUs"),
        (["train", "split0", "pascal", "\u00b2"], "no number of GPUs"),
        (["train", "split0", "pascal", "resnet101"], "such as NET=resnet101 sh train.sh split0 pascal 1"),
        (["train", "pascal", "split0", "64"], "the fold stands first; write split0 pascal"),
        (["train", "split0", "pascal", "64"], "64 GPUs are requested, and torch finds .*0: the CPU"),
        (["train", "split0", "pascall", "0"], "'pascal'"),
        (["train", "split0", "pascal", "0", "data.shot=5"], "data.shot=5.* write --set data.shot=5"),
        (
            ["train", "split0", "pascal", "0", "--set", "data.shot=5", "none"],
            "none; write all words,.* before",
        ),
        (["train", "--resume", "split0", "pascal", "0"], "EXPERIMENT DATASET GPUS first.*; options come last"),
        (["train", "split0", "pascal", "0", "--dry-run=0"], "--dry-run: 0 is out of range; allowed: at least 1"),
        (["train", "splitt0", "pascal", "0"], "splitt0: no such config for pascal; did you mean 'split0'"),
        (["train", "split0", "pascal", "0", "--model", "sspp"], "sspp.*'ssp'"),
    ],
)
def test_words_that_mean_nothing_are_refused_before_anything_starts(words: list[str], place: str, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["launch", *words])

    def run_here(name: str, arguments: list[str]) -> None:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        {"train": train, "test": scoring}[name].command()

    monkeypatch.setattr(launch, "run_here", run_here)
    with pytest.raises(UserError, match=place):
        launch.main()


def test_a_training_that_does_not_fit_on_the_disk_is_refused_at_its_start(mini_config, monkeypatch, capsys):
    """Before the base stage, by the numbers of the plan; files that the training replaces count as free."""
    config = mini_config("bam", data={"text": "none"})
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**5))
    says = r"the disk is too small: checkpoints will take .* while training; 0\.0 GB are free; free some"
    with pytest.raises(UserError, match=says):
        stages.train(config, Asked())
    with pytest.raises(UserError, match="the disk is too small"):
        dry_run(config, Asked(), 1)
    assert capsys.readouterr().out.startswith(f"config: {config.source}\n")
    assert not Run(config).folder("base").exists()
    written = Run(config).folder("meta") / BEST
    written.parent.mkdir(parents=True)
    with written.open("wb") as file:
        file.truncate(10**9)
    assert disk.room(config, [disk.CheckpointBytes(10**6, 10**6)], [written.parent])


@pytest.mark.parametrize(
    ("method", "content", "says"),
    [
        ("bam", None, "this checkpoint does not exist"),
        ("bam", {"conv1.weight": torch.zeros(64, 3, 7, 7)}, "not weights of this model as configured"),
        (
            "bam",
            build_encoder(EncoderSettings("resnet10")).state_dict(),
            "looks like weights of an encoder alone; name a checkpoint of a training",
        ),
        ("ssp", {"conv1.weight": torch.zeros(64, 3, 7, 7)}, "to continue a training write --resume"),
    ],
)
def test_a_dry_run_reads_the_checkpoint_that_is_named(method, content, says: str, *, mini_config, tmp_path: Path):
    file = tmp_path / "named.pth"
    if content is not None:
        torch.save(content, file)
    with pytest.raises(UserError, match=rf"^{file}: [^\n]*{says}[^\n]*$"):
        dry_run(mini_config(method), Asked(checkpoint=str(file)), 1)


def test_all_that_does_not_depend_on_each_other_is_refused_together(mini_yaml, tmp_path: Path):
    """Data, vectors, weights, a metric and the batch; a training says what its dry run says, and changes nothing."""
    missing = {"data.root": tmp_path / "none", "model.encoder.weights": tmp_path / "lost.pth", "data.text": "word2vek"}
    missing |= {"test.metrics": "[boundaryiou]", "meta_stage.accumulate": 9, "meta_stage.optimizers.head.lr": 0.1}
    config = read_config(mini_yaml("symnet"), [f"{key}={value}" for key, value in missing.items()])
    for begin in (lambda: dry_run(config, Asked(), 1), lambda: stages.train(config, Asked())):
        with pytest.raises(Refusals) as refused:
            begin()
        said = "\n".join(refused.value.lines)
        vectors = "did you mean 'word2vec'?; make them: python prepare.py embeddings --dataset mini"
        optimizer = "yaml: meta_stage.optimizers.head: the method has groups for main"
        for what in (optimizer, "boundary_iou", vectors, "prepare.py mini --out", "lost.pth", "batch"):
            assert what in said, said
        assert len(refused.value.lines) == 6 and pickle.loads(pickle.dumps(refused.value)).lines == refused.value.lines
    assert not (tmp_path / "runs").exists()


def test_the_steps_are_those_of_the_published_list_where_the_data_is_not_there(capsys):
    config = read_config(find_config("split0", "coco", "symnet", "resnet50"), ["data.root=/nowhere"])
    with pytest.raises(UserError, match=r"prepare\.py coco --out /nowhere"):
        dry_run(config, Asked(), 4)
    cells = re.findall(r"~\d+", capsys.readouterr().out)
    assert cells == ["~136800", "~34200"]  # 82,081 photos in batches of 12, 21,916 in batches of 32


def test_no_index_is_built_where_text_vectors_are_not_there(mini_yaml, tmp_path: Path):
    config = read_config(mini_yaml("symnet"), ["data.text=word2vek", f"data.cache={tmp_path / 'cache'}"])
    with pytest.raises(UserError, match="these text vectors do not exist"):
        dry_run(config, Asked(), 1)
    assert not (tmp_path / "cache").exists()


def test_a_dry_run_takes_a_base_stage_that_fits(mini_config, tmp_path: Path):
    run = Run(mini_config("bam"))
    torch.save(build_model(run.config, text_width=0).base_stage().state_dict(), tmp_path / "named.pth")
    dry_run(run.config, Asked(checkpoint=f"{tmp_path}/named.pth"), 1)


def test_an_error_names_the_process_that_was_killed_first(monkeypatch: pytest.MonkeyPatch, handlers):
    """The others ended because of it, perhaps within the same second."""
    codes = {0: 2, 1: -signal.SIGKILL, 2: -signal.SIGTERM}
    failures = {rank: ProcessFailure(rank, 1, code, "none") for rank, code in codes.items()}

    def ended(which: dict[int, ProcessFailure]) -> int:
        monkeypatch.setattr(torch_run, "run", Mock(side_effect=ChildFailedError("train.py", which)))
        return launch.run_together("train", 2, [])

    with pytest.raises(UserError, match=r"process 1 was killed \(SIGKILL\).*--resume"):
        ended(failures)
    assert ended({0: failures[0]}) == 2


def test_several_processes_that_nohup_began_outlast_their_terminal(monkeypatch: pytest.MonkeyPatch, handlers):
    def run(_: object) -> None:
        signal.signal(signal.SIGHUP, lambda *_: pytest.fail("heard"))  # as torchrun does
        signal.raise_signal(signal.SIGHUP)

    monkeypatch.setattr(torch_run, "run", run)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert launch.run_together("train", 2, []) == 0
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what waits is gone
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
        signal.signal(signal.SIGHUP, before)


@pytest.mark.process
@pytest.mark.parametrize(("code", "requeues"), [(130, True), (138, True), (2, False)])
def test_the_script_for_slurm_requeues_an_interrupted_job(code: int, requeues: bool, tmp_path: Path):
    (script,) = re.findall(r"```bash\n(.*?)```", (REPOSITORY / "docs/cluster.md").read_text(), re.DOTALL)
    for name, does in {"srun": f'echo "$@"; exit {code}', "scontrol": 'echo "scontrol $@"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = ["bash", "-c", script, "job", "train.sh", "split%a"]
    ran = subprocess.run(words, env=slurm, capture_output=True, text=True)
    assert ran.returncode == code and "train.sh split2" in ran.stdout and not ran.stderr
    assert ("scontrol requeue 7" in ran.stdout) == requeues


@pytest.mark.train
def test_other_photos_or_initial_weights_of_a_finished_training_are_refused(mini_yaml, mini_root: Path, tmp_path: Path):
    """A training that is resumed at its end changes no file."""
    root, encoder = tmp_path / "own", tmp_path / "encoder.pth"
    shutil.copytree(mini_root, root)
    weights = build_encoder(EncoderSettings(backbone=NARROW, stem="plain", weights=None)).state_dict()
    torch.save(weights, encoder)
    stage = {"epoch_length": 8, "validate_every": 0}
    model = {"encoder": {"backbone": NARROW, "stem": "plain", "weights": str(encoder)}}
    config = read_config(mini_yaml("bam", model=model, base_stage=stage, meta_stage=stage, data={"root": str(root)}))
    run = Run(config)

    def check_refused(words: str) -> None:
        for asked in (Asked(), Asked(stage="meta", overwrite=True)):
            with pytest.raises(UserError, match=f"the base stage was trained with .*{words}"):
                stages.train(config, asked)

    assert stages.train(config, Asked()) == 0
    before = snapshot(tmp_path)
    for stage in ("base", None):
        assert stages.train(config, Asked(resume=True, stage=stage)) == 0
    assert snapshot(tmp_path) == before
    torch.save({name: tensor + 1 for name, tensor in weights.items()}, encoder)
    check_refused("other initial weights")
    torch.save(weights, encoder)
    shutil.rmtree(root)
    generate(root, 24, 16, 64, 9)
    assert "other photos or masks" in stage_of(run, "meta", Asked(resume=True)).refusal
    check_refused("other photos or masks")
    meta = run.folder("meta")
    (meta / BEST).rename(meta / LAST)  # as of a training that is not finished
    unfinished = stage_of(run, "meta", Asked(resume=True)).refusal
    assert "other photos or masks" in unfinished and "--allow-changes continues it" in unfinished


def check_stage_folder(folder: Path, stage: str) -> None:
    """Assert that a stage's folder tells all of its training."""
    environment = json_of(folder / "environment.json")
    assert {"commit", "packages", "machine", "processor", "command", "images", "list"} <= environment.keys()
    assert "fold: 0" in (folder / "config.yaml").read_text()
    first_line, *others = (folder / "log.txt").read_text().splitlines()
    assert first_line.endswith(" config: config/mini/symnet.yaml + config/encoder/resnet10.yaml")
    assert f"{stage} stage" in "".join(others)
    metrics = json_of(folder / "metrics.json")
    losses = metrics["epochs"][0]["losses"]
    assert losses.pop("total") == pytest.approx(sum(losses.values()))
    assert metrics["finished"]
    assert list((folder / "tensorboard").iterdir())


@pytest.mark.process
@pytest.mark.train
def test_train_and_test_as_typed(mini_root: Path, tmp_path: Path):
    """As the shell scripts do, in forked processes of this one; ``test_reproduce.py`` runs shell scripts."""
    settings = SHORT | {"data.root": mini_root, "data.cache": tmp_path / "cache", "run.folder": tmp_path / "runs"}
    run = tmp_path / "runs/mini_split0_resnet10"
    launcher = ("-m", "util.launch")
    trained = spawned.run(*launcher, "train", "split0", "mini", "0", *as_options(settings))
    assert f"base stage: begins in {run}/base\n" in trained.stdout
    check_stage_folder(run / "base", "base")
    check_stage_folder(run / "meta", "meta")
    meta = checkpoint.read(run / "meta" / BEST).entries["weights"]
    for name, tensor in checkpoint.read(run / "base" / BEST).entries["weights"].items():  # frozen in the meta stage
        assert torch.equal(tensor, meta[name]), name

    given = {"run.folder": run.parent, "test.episodes": 4, "test.seeds": [0]}  # all else as in the training
    words = ["split0", "mini", "0", "names", f"{run}/meta/last.pth", *as_options(given)]
    assert "| final" in spawned.run(*launcher, "test", *words).stdout
    result = json_of(run / "test/symnet_last_quick/result.json")
    assert result["quick_look"] and not result["trained_otherwise"]
    assert result["checkpoint"].endswith("last.pth")
    assert result["config"]["data"]["size"] == 33
    assert {"final", "meta", "base", "all_foreground"} <= result["mean"].keys()
