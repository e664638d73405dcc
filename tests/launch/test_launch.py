"""``train.sh`` and ``test.sh``: their words, their configs, and whole runs as a user types them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

import test as scoring
from model.encoders.settings import EncoderSettings, build_encoder
from tests.helpers import spawned
from tests.helpers.narrow import NARROW
from tests.helpers.outcome import run_script
from tests.helpers.paths import REPOSITORY
from util import cli
from util.config.compose import find_config
from util.config.read import read_config
from util.data.mini import generate
from util.files.errors import EXIT_USER_ERROR, UserError
from util.launch import launch, plan, reproduce
from util.launch.launch import as_options
from util.launch.tasks import StageTask, stage_in
from util.report import show
from util.run import checkpoint
from util.run.folder import ENVIRONMENT
from util.run.network import build_model
from util.run.run import BEST, Run
from util.run.weights import start_problem
from util.train.optim import StepSchedule

# A data set of tiny photos through the real scripts and the real config, shortened by overrides.
SHORT = {"model.encoder.backbone": NARROW, "data.size": 33, "data.min_pixels": 100}
SHORT |= {"base_stage.size": 33, "base_stage.epochs": 1, "base_stage.batch": 8, "base_stage.validate_episodes": 4}
SHORT |= {"meta_stage.epochs": 1, "meta_stage.batch": 4, "meta_stage.epoch_length": 16}
SHORT |= {"meta_stage.validate_episodes": 4, "test.episodes": 4, "test.pictures": 2, "test.seeds": [0]}
CPU = ["--set", "run.device=cpu"]


@pytest.fixture
def handlers() -> Iterator[None]:
    """Restore the handlers of the signals that end a command."""
    before = {number: signal.getsignal(number) for number in cli.STOPS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_words_name_config_gpus_and_options(monkeypatch: pytest.MonkeyPatch):
    """Text vectors and a checkpoint come in either order; ``--model`` and ``--net`` win over the environment."""
    source = find_config("split0", "pascal", "symnet", "resnet50")
    words = {"glove": ["--set", "data.text=glove"], "a.pth": ["--checkpoint", "a.pth"]}
    for first, second in (("glove", "a.pth"), ("a.pth", "glove")):
        expected = source, 0, [*CPU, *words[first], *words[second]]
        assert launch.parse(["split0", "pascal", "0", first, second]) == expected
    scored = launch.parse(["split0", "pascal", "0", "a.pth"], trains=False)
    assert scored == (source, 0, [*CPU, "--set", "test.checkpoint=a.pth"])
    with pytest.raises(UserError, match="write --set before"):
        launch.parse(["split0", "pascal", "0", "runs/lr=0.1/best.pth", "data.shot=5"])
    assert launch.parse(["ssp_lite0", "pascal", "0"]) == (Path("config/pascal/ssp_lite0.yaml"), 0, CPU)
    monkeypatch.setenv("NET", "resnet101")
    monkeypatch.setenv("MODEL", "")
    assert str(launch.parse(["split1", "pascal", "0"])[0]) == "split1 pascal --model symnet --net resnet101"
    monkeypatch.setenv("MODEL", "dcama")
    source, _, options = launch.parse(["split1", "mini", "0", "--net", "resnet34", "--resume"])
    assert str(source) == "split1 mini --model dcama --net resnet34" and options == [*CPU, "--resume"]


@pytest.mark.process
@pytest.mark.parametrize("script", ["train", "test", "reproduce"])
def test_help_names_all_options_of_a_script(script: str, monkeypatch):
    """The shell script prints its own head, without Python."""
    parsers: list[cli.Parser] = []
    monkeypatch.setattr(cli.Parser, "parse_args", lambda self, *_: parsers.append(self) or sys.exit())
    train = partial(launch.train, Path("config.yaml"), 0, [])
    with pytest.raises(SystemExit):
        {"train": train, "test": scoring.command, "reproduce": reproduce.main}[script]()
    words = ["sh", REPOSITORY / f"{script}.sh", "split0", "--help"]
    text = subprocess.run(words, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}).stdout
    options = {name for action in parsers[0]._actions for name in action.option_strings}
    if script == "test":
        options |= {"--figures", "--format"}  # of what follows test.py
    assert {"MODEL", "GPUS"} <= set(re.findall(r"\w+", text))
    elsewhere = {"-h", "--help", "--model", "--net", "--checkpoint"}
    assert set(re.findall("^  (--[a-z-]+)", text, re.MULTILINE)) == options - elsewhere


@pytest.mark.process
@pytest.mark.parametrize("words", [["train.sh"], ["test.sh", "split0", "mini", "0"], ["reproduce.sh"]])
def test_a_shell_script_says_the_version(words: list[str]):
    (version,) = re.findall('^version = "(.*?)"', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    place = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    words = ["sh", *words, "--version"]
    ended = subprocess.run(words, cwd=REPOSITORY, env=place, capture_output=True, text=True, check=True)
    assert ended.stdout == f"Sym-Net {version}\n"


@pytest.mark.parametrize(("code", "rank", "shown"), [(0, "0", ["hsnet", "bam"]), (2, "0", []), (0, "1", [])])
def test_what_a_test_has_written_is_shown_at_its_end(
    code: int, rank: str, shown: list[str], *, mini_yaml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of writing, on the first machine, unless the test fails; the options of tables are not its own."""
    places = {name: tmp_path / f"runs/tiny/test/{name}/result.json" for name in ("symnet", "hsnet", "bam")}
    for path in places.values():
        path.parent.mkdir(parents=True)
    places["symnet"].touch()
    calls = list[tuple]()

    def score(*arguments: object) -> int:
        calls.append(arguments)
        for second, name in enumerate(("hsnet", "bam")):
            places[name].write_text(json.dumps({"date": f"2026-11-27T10:00:0{second}+00:00", "minutes": 0.1}))
            os.utime(places[name], (-second, -second))  # as a clock that was set back does
        return code

    monkeypatch.setattr(launch, "run_script", score)
    monkeypatch.setattr(show, "show", lambda *arguments: calls.append(arguments))
    monkeypatch.setenv("NODE_RANK", rank)
    path = mini_yaml()
    words = ["--figures", "svg", "--shot", "1", "--format", "csv", "--set", "run.seed=3"]
    assert launch.test(path, 0, words) == code
    assert calls.pop(0) == ("test", 0, [str(path), "--set", "run.seed=3", "--shot", "1"])
    assert calls == [([places[name] for name in shown], "svg", "csv")] * bool(shown)


LR = "meta_stage.optimizers.main.lr"


@pytest.mark.parametrize(("stage", "trained_by"), [("base", "tiny"), ("base", "another"), ("meta", "tiny")])
def test_a_setting_of_a_training_is_kept_by_each_resume(
    stage: str, trained_by: str, mini_yaml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a base stage that runs share, and of a stage without a checkpoint yet."""
    path = mini_yaml("bam", run={"base_folder": str(tmp_path / "base")})
    folder = Run(read_config(path)).folder(stage)
    folder.mkdir(parents=True)
    (folder / ENVIRONMENT).write_text(json.dumps({"options": [f"{LR}=0.5"], "run": trained_by}))
    words: list[list[str]] = []
    monkeypatch.setattr(launch, "run_script", lambda _script, _gpus, given: words.append(given))
    launch.train(path, 0, ["--resume"])
    kept = trained_by == "tiny"
    assert [f"{LR}=0.5" in given for given in words] == [kept, kept]


def task(dataset: str, method: str, stage: str, gpus: int) -> StageTask:
    config = read_config(find_config("split0", dataset, method, "resnet50"))
    return StageTask(config, stage, gpus, Path())


def test_no_more_gpus_are_used_than_the_batch_has_parts_and_what_changes_is_said(monkeypatch):
    """Of 12 images in all a process takes two in the base stage, one episode in the meta stage."""
    for gpus, machines, stage, used in [(8, 1, "base", 6), (4, 2, "base", 3), (8, 1, "meta", 8), (0, 1, "base", 0)]:
        monkeypatch.setenv("NNODES", str(machines))
        assert task("pascal", "symnet", stage, gpus).used == used
    assert "4 of 8 GPUs" in task("pascal", "ssp", "meta", 8).note


@pytest.mark.parametrize(
    ("dataset", "method", "total"),
    [
        *(("pascal", "symnet", 32), ("coco", "symnet", 32), ("pascal", "hdmnet", 16)),
        *(("coco", "hdmnet", 24), ("pascal", "dcama", 48)),
    ],
)
def test_the_published_batch_holds_on_any_number_of_gpus(dataset: str, method: str, total: int):
    one = task(dataset, method, "meta", 1)
    for many in (replace(one, gpus=gpus) for gpus in (1, 2, 3, 4, 8)):
        schedule = StepSchedule.from_settings(many.settings, 3200, many.processes, "meta_stage")
        assert (schedule.batch, schedule.steps_per_epoch, many.note) == (total, 3200 // total, "")


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["train", "split0", "pascal"], "gpus"),
        (["train", "split0", "pascal", "two"], "gpus.*'two'"),
        (["train", "split0", "pascall", "0"], "'pascal'"),
        (["train", "splitt0", "pascal", "0"], "splitt0: no such config for pascal; did you mean 'split0'"),
        (["train", "split0", "pascal", "0", "--model", "sspp"], "sspp.*'ssp'"),
        (["test", "split0", "pascal", "0", "some/where"], "'some/where'"),
    ],
)
def test_words_that_mean_nothing_are_refused_before_anything_starts(words: list[str], place: str, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["launch", *words])
    with pytest.raises(UserError, match=place):
        launch.main()


@pytest.mark.parametrize(
    ("available", "says"),
    [
        (0, "this machine has no GPU; write 0 for the CPU: NET=lite0 sh test.sh split0 coco 0 --set 'run.name=a b'"),
        (2, "this machine has 2, and 3 says how many, not which: NET=lite0 sh test.sh split0 coco 2 --set "),
        (2, "; for one of them: CUDA_VISIBLE_DEVICES=1 NET=lite0 sh test.sh split0 coco 1 --set 'run.name=a b'"),
    ],
)
def test_too_many_gpus_are_refused_with_what_to_type(available: int, says: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(launch, "gpu_count", lambda: available)
    monkeypatch.setattr(launch, "gpu_problem", lambda: "")
    monkeypatch.delenv("MODEL", raising=False)
    monkeypatch.setenv("NET", "lite0")
    command = ["test.sh", "split0", "coco", "3", "--set", "run.name=a b"]
    with pytest.raises(UserError, match=re.escape(says)):
        launch.check_gpus(3, command)
    launch.check_gpus(available, command)


def test_a_training_that_does_not_fit_on_the_disk_is_refused_at_its_start(mini_yaml, monkeypatch, capsys):
    """Before the base stage, by the numbers of the plan; files that the training replaces count as free."""
    path = mini_yaml("bam", data={"text": "none"})
    scripts = list[str]()
    monkeypatch.setattr(launch, "run_script", lambda script, *_: scripts.append(script))
    monkeypatch.setattr(plan, "free_bytes", lambda _: 10**5)
    says = r"the disk is too small: .* GB are kept, .* 0\.0 GB are free; free some"
    with pytest.raises(UserError, match=says) as caught:
        launch.train(path, 0, [])
    launch.train(path, 0, ["--dry-run"])
    planned = capsys.readouterr()
    assert planned.out.startswith(f"config: {path}\n") and f"error: {caught.value}\n" in planned.err
    assert scripts == [] and not Run(read_config(path)).folder("base").exists()
    written = Run(read_config(path)).folder("base") / BEST
    written.parent.mkdir(parents=True)
    with written.open("wb") as file:
        file.truncate(10**9)
    assert plan.disk_problem([stage_in(written.parent, Run(read_config(path)), "meta", 0)]) == ""


@pytest.mark.parametrize(
    ("method", "content", "says"),
    [
        ("bam", None, "this checkpoint does not exist"),
        ("bam", {"conv1.weight": torch.zeros(64, 3, 7, 7)}, "not weights of this model as configured"),
        ("ssp", {"conv1.weight": torch.zeros(64, 3, 7, 7)}, "SSP has no base stage to start from"),
    ],
)
def test_a_dry_run_reads_the_checkpoint_that_is_named(method, content, says: str, *, mini_yaml, tmp_path: Path, capsys):
    file = tmp_path / "named.pth"
    if content is not None:
        torch.save(content, file)
    assert launch.train(mini_yaml(method), 0, ["--dry-run", "--checkpoint", str(file)]) == EXIT_USER_ERROR
    (error,) = re.findall("^error: .*", capsys.readouterr().err, re.MULTILINE)
    assert error.startswith(f"error: {file}: ") and says in error


def test_a_dry_run_takes_a_base_stage_that_fits(mini_yaml, tmp_path: Path):
    run = Run(read_config(mini_yaml("bam")))
    torch.save(build_model(run.config, text_width=0).base_stage().state_dict(), tmp_path / "named.pth")
    assert start_problem(run, str(tmp_path / "named.pth")) == ""


def test_which_of_several_processes_was_killed_is_said(monkeypatch: pytest.MonkeyPatch, handlers):
    """The others ended because of it, perhaps within the same second."""
    codes = {0: 2, 1: -signal.SIGKILL, 2: -signal.SIGTERM}
    failures = {rank: ProcessFailure(rank, 1, code, "none") for rank, code in codes.items()}

    def ended(which: dict[int, ProcessFailure]) -> int:
        monkeypatch.setattr(torchrun, "run", Mock(side_effect=ChildFailedError("train.py", which)))
        return launch.run_script("train", 2, [])

    with pytest.raises(UserError, match=r"process 1 was killed \(SIGKILL\).*--resume"):
        ended(failures)
    assert ended({0: failures[0]}) == 2


@pytest.mark.process
@pytest.mark.parametrize(
    ("first", "then", "code"),
    [("", "sleep .05", 130), ("trap 'exit 2' USR1", "sleep .05", 2), ("trap '' USR1", "exit 0", 130)],
)
def test_a_signal_of_the_scheduler_ends_what_runs_and_what_would_follow(first: str, then: str, code: int, handlers):
    assert launch._run_alone(["sh", "-c", f"{first}\nwhile :; do kill -USR1 $PPID; {then}; done"]) == code


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
def test_other_photos_or_initial_weights_of_a_finished_training_are_refused(
    mini_yaml, mini_root: Path, tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch
):
    """By ``train.sh``, which keeps a base stage, and by ``train.py``, which starts from it; unchanged, both go on."""
    root, encoder = tmp_path / "own", tmp_path / "encoder.pth"
    shutil.copytree(mini_root, root)
    weights = build_encoder(EncoderSettings(backbone=NARROW, stem="plain", weights=None)).state_dict()
    torch.save(weights, encoder)
    stage = {"epoch_length": 8, "validate_every": 0}
    model = {"encoder": {"backbone": NARROW, "stem": "plain", "weights": str(encoder)}}
    path = mini_yaml(model=model, base_stage=stage, meta_stage=stage, data={"root": str(root), "text": "names"})
    run = Run(read_config(path))
    scripts = list[str]()  # that train.sh would run
    monkeypatch.setattr(launch, "run_script", lambda script, *_: scripts.append(script))

    def refusal_of_meta_stage() -> str:
        return stage_in(run.folder("meta"), run, "meta", 0).refusal

    def check_refused(words: str) -> None:
        with pytest.raises(UserError, match=f"the base stage was trained with .*{words}"):
            launch.train(path, 0, [])
        assert words in run_script("train.py", (path, "--overwrite"), capfd, monkeypatch).error

    assert run_script("train_base.py", (path,), capfd, monkeypatch).code == 0
    launch.train(path, 0, [])
    assert scripts == ["train"]
    assert run_script("train.py", (path,), capfd, monkeypatch).code == 0
    assert refusal_of_meta_stage() == ""
    assert checkpoint.read(run.weights).entries["finished"]

    torch.save({name: tensor + 1 for name, tensor in weights.items()}, encoder)
    check_refused("other initial weights")
    torch.save(weights, encoder)
    shutil.rmtree(root)
    generate(root, 48, 32, 64, 9)
    assert "other photos or masks" in refusal_of_meta_stage()
    check_refused("other photos or masks")
    best = run.folder("base") / BEST  # named, it is taken
    assert run_script("train.py", (path, "--overwrite", "--checkpoint", best), capfd, monkeypatch).code == 0


def check_stage_folder(folder: Path, stage: str) -> None:
    """Assert that a stage's folder tells all of its training."""
    environment = json.loads((folder / "environment.json").read_text())
    assert {"commit", "packages", "machine", "command", "images", "list"} <= environment.keys()
    assert "fold: 0" in (folder / "config.yaml").read_text()
    log = (folder / "log.txt").read_text()
    first_line, *_ = log.splitlines()
    assert first_line.endswith(" config: config/mini/symnet.yaml + config/encoder/resnet10.yaml")
    assert f"{stage} stage" in log
    metrics = json.loads((folder / "metrics.json").read_text())
    losses = metrics["epochs"][0]["losses"]
    total = losses.pop("total")
    assert total == pytest.approx(sum(losses.values()))
    assert metrics["finished"]
    assert list((folder / "tensorboard").iterdir())


def check_result(folder: Path) -> None:
    """Assert that the folder of a quick test has a result of the settings that the weights were trained with."""
    result = json.loads((folder / "result.json").read_text())
    assert result["quick_look"] and not result["trained_otherwise"]
    assert result["checkpoint"].endswith("last.pth")
    assert result["config"]["data"]["size"] == 33
    assert {"final", "meta", "base", "all_foreground"} <= result["mean"].keys()
    assert (folder / "episodes.png").exists()


def check_further_training(run: Path, options: list[str], monkeypatch, capsys) -> None:
    """Train over a finished training: continued, with other settings, and again."""
    called: list[tuple[str, bool]] = []  # scripts, and whether they continue with the training's size

    def note(script: str, _: int, words: list[str]) -> None:
        called.append((script, "--resume" in words and "data.size=33" in words))

    monkeypatch.setattr(launch, "run_script", note)
    path = find_config("split0", "mini")
    longer = [*options, "--set", "base_stage.epochs=2"]
    launch.train(path, 0, ["--set", f"run.folder={run.parent}", "--resume"])
    assert f"{run}/base/best.pth is kept: finished, " in capsys.readouterr().out
    with pytest.raises(UserError, match=r"base_stage\.epochs = 1, now 2"):
        launch.train(path, 0, [*longer, "--resume"])
    launch.train(path, 0, [*longer, "--overwrite"])
    assert called == [("train", True), ("train_base", False), ("train", False)]


@pytest.mark.process
@pytest.mark.train
def test_train_and_test_as_typed(mini_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """As the shell scripts do, in forked processes of this one; ``test_reproduce.py`` runs a shell script itself."""
    settings = SHORT | {"data.root": mini_root, "data.cache": tmp_path / "cache", "run.folder": tmp_path / "runs"}
    options = as_options([f"{key}={value}" for key, value in settings.items()])
    run = tmp_path / "runs/mini_split0_resnet10"
    launcher = ("-m", "util.launch.launch")
    trained = spawned.run(*launcher, "train", "split0", "mini", "0", *options, before=spawned.fork_scripts)
    assert f"base stage: {run}/base: not begun" in trained.stdout
    check_stage_folder(run / "base", "base")
    check_stage_folder(run / "meta", "meta")
    meta = checkpoint.read(run / "meta" / BEST).entries["weights"]
    for name, tensor in checkpoint.read(run / "base" / BEST).entries["weights"].items():  # frozen in the meta stage
        assert torch.equal(tensor, meta[name]), name

    given = [f"{key}={value}" for key, value in SHORT.items() if key.startswith("test.")]  # all else as in the training
    words = ["split0", "mini", "0", "names", run / "meta/last.pth", *as_options([f"run.folder={run.parent}", *given])]
    tested = spawned.run(*launcher, "test", *words, before=spawned.fork_scripts)
    assert "| final" in tested.stdout + tested.stderr
    check_result(run / "test/symnet_last_quick")
    check_further_training(run, options, monkeypatch, capsys)
