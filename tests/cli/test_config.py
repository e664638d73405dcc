"""Tests of reading configs: overrides, and mistakes, each named with file, line, key and remedy."""

import dataclasses
from pathlib import Path

import pytest

from model.decides import Decides
from tests.helpers.paths import REPOSITORY
from util.config import read
from util.config.compose import find_config
from util.config.read import from_dict, read_config, to_dict
from util.config.same import differences
from util.config.settings import MODALITIES, Config
from util.files.errors import UserError

MINI = REPOSITORY / "config/mini/mini_demo.yaml"


def write_config(folder: Path, text: str, name: str = "run.yaml", base: Path | None = MINI) -> Path:
    """Write a config whose first line inherits from ``base``, so that ``text`` starts in line 2."""
    path = folder / name
    path.write_text((f"base: {base}\n" if base else "") + text)
    return path


def read_text(folder: Path, text: str, overrides: list[str] | None = None) -> Config:
    return read_config(write_config(folder, text), overrides)


def refusal(path: Path, overrides: list[str] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        read_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_overrides_win_over_files_and_later_ones_over_earlier(tmp_path: Path) -> None:
    overrides = ["data.fold=2", "meta_stage.augment.scale=[0.5, 1.5]", "data.fold=3", "test.seeds=[4]", "run.name=x=y"]
    overrides += ["meta_stage.augment={keep_target: 0.25}", "data.name=2024-12-24"]
    config = read_text(tmp_path, "data: {fold: 1, shot: 5}\n", overrides)
    assert (config.data.fold, config.data.shot, config.test.seeds) == (3, 5, [4])
    assert (config.meta_stage.augment.scale, config.meta_stage.augment.keep_target) == ([0.5, 1.5], 0.25)
    assert (config.run.name, config.data.name) == ("x=y", "2024-12-24")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("data.sise=97", ("unknown key 'data.sise'", "did you mean 'size'?")),
        ("data.size.x=97", ("data.size", "a whole number")),
        ("data=3", ("data = 3 must be a section",)),
        ("meta_stage.optimizers.lr=1", ("'meta_stage.optimizers.lr'; write meta_stage.optimizers.main.lr",)),
        (
            'run.base_folder="{runs}/{name}"',
            ("run.base_folder: {name} is no name in braces; known: {runs}, {dataset}",),
        ),
        ("base=other.yaml", ("'base' is a key of files; name the file itself",)),
        ("net=lite0", ("'net' is a key of files; name the encoder by NET=",)),
        ("test.seeds=[1", ("line 1 to 2: ", "close brackets")),
        ("run.name=", ("write section.key=value (null for no value)",)),
        ("source=x", ("unknown key 'source'",)),
        ("meta_stage.lr=0.1", ("unknown key 'meta_stage.lr'; write meta_stage.optimizers.main.lr",)),
        ("test={seeds: [1], seeds: [2]}", ("key 'seeds' is written twice",)),
        ("protocols.mine={scored_on: original}", ("mine.scored_on = ", "use letterbox or square")),
        ("protocols.mine={supports: first}", ("mine.supports = ", "query: pairs")),
        ("protocols.mine={episodes: null}", ("mine.episodes = ", "query: sequential; give a number")),
        (
            "protocols.mine={input: original, scored_on: original, side: 97}",
            ("protocols.mine.side = ", "leave it null"),
        ),
    ],
)
def test_wrong_override_is_named(text: str, parts: tuple[str, ...]) -> None:
    message = refusal(MINI, [text])
    assert message.startswith(f"--set {text}: ") and all(part in message for part in parts), message


WRONG_FILES = [b"data: {fold: 1", b"\tdata: 1", b"data: !strange 3", b"a: 1\n---\nb: 2", b"a: !!int ''"]


@pytest.mark.parametrize("content", [*WRONG_FILES, b"- a\n- b\n", b"only words", b"\xff\xfe\x00\x9c", b"\x00\x01"])
def test_files_that_are_no_mapping_in_yaml_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    assert str(path) in refusal(path)


def test_missing_sections_and_a_bases_mistake_are_named_in_their_files(tmp_path: Path) -> None:
    for text in ("data: {fold: 1}\n", ""):
        assert "this file inherits nothing; write base:" in refusal(write_config(tmp_path, text, base=None))
    assert read_text(tmp_path, "imports:\nmeta_stage:\n  # epochs: 3\n") == read_config(MINI, ["run.name=run"])
    assert refusal(write_config(tmp_path, "epochs:\n")).startswith(f"{tmp_path}/run.yaml: unknown key 'epochs'")
    write_config(tmp_path, "data:\n  sise: 97\n", "low.yaml")
    assert refusal(write_config(tmp_path, "", base=Path("low.yaml"))).startswith(f"{tmp_path}/low.yaml:3: ")


@pytest.mark.parametrize(("written", "value"), [("1e-4", 1e-4), ("1E-4", 1e-4), ("5e3", 5e3), ("1", 1.0), ("0.1", 0.1)])
def test_numbers_may_be_written_in_any_way(tmp_path: Path, written: str, value: float) -> None:
    """YAML 1.1 reads 1e-4, without a dot, as text."""
    stages = read_text(tmp_path, f"meta_stage: {{optimizers: {{main: {{lr: {written}}}}}}}\n")
    lr = stages.meta_stage.optimizers["main"].lr
    assert lr == value and isinstance(lr, float)
    assert read_config(MINI, [f"meta_stage.optimizers.main.lr={written}"]).meta_stage.optimizers["main"].lr == value


@pytest.mark.parametrize("word", ["010", "2026_11_29", "#1", "1.50", "0x1F", "1:30", "a: b #2", "~/a"])
def test_a_name_is_the_word_that_was_written(tmp_path: Path, monkeypatch, word: str) -> None:
    """And a number the number that it means; YAML reads some of these as numbers, or as a comment."""
    monkeypatch.setenv("HOME", "/home/a")
    whole = word.replace("~", "/home/a")
    assert read_config(MINI, [f"data.text={word}"]).data.text == whole
    assert "#" in word or read_text(tmp_path, f"data: {{text: {word}}}\n").data.text == whole
    assert read_config(MINI, ["data.fold=01"]).data.fold == 1


MISTAKES = [  # text, line, and parts of the message
    ("data:\n  fold: 1\n  shot: 1\n  fold: 1\n", 5, "is written twice"),
    ("data: {fold: 1}\nrun: {seed: 1}\ndata: {shot: 1}\n", 4, "is written twice"),
    ("base: other.yaml\n", 2, "is written twice"),
    ("data:\n  fold: 1\n\n  # a comment\n  sise: 97\n", 6, "unknown key 'data.sise'", "did you mean 'size'?"),
    ("meta_stage:\n  augment:\n    scal: [1, 1]\n", 4, "unknown key 'meta_stage.augment.scal'", "mean 'scale'?"),
    ("test: {qqqqqq: 1}\n", 2, "unknown key 'test.qqqqqq'", "known: batch, checkpoint, "),
    ("path: elsewhere\ndata: {sise: 9, shot: 0}\n", 2, "unknown key 'path'", ":3: unknown key 'data.sise'", "shot = 0"),
    ("meta_stage:\n  epochs: 1e1\nmodel: {decoder: x}\n", 3, "epochs = '1e1'", ":4: unknown key 'model.decoder'"),
    ("base_stage: {augment: {keep_target: 0.5}}\ndata: {size: 470}\n", 2, "has no effect", ":3: data.size = 470"),
    ("source: x\ngiven: [a]\n", 2, "unknown key 'source'", ":3: unknown key 'given'"),
    ("data:\n  fold: 1\n  shot\nrun: {}\n", 4, "not valid YAML: could not find expected ':'; indent by spaces"),
    ("base_stage: null\n", 2, "base_stage is missing"),
    ("epochs: 10\n", 2, "unknown key 'epochs'; write meta_stage.epochs or base_stage.epochs"),
    ("meta_stage: {optimizers: {a: {lr: x}, b: {lr: y}}}\n", 2, "optimizers.a.lr", "optimizers.b.lr = 'y'"),
    ("DATA:\n  split: 0\n", 3, "'DATA' is a key of BAM's", "docs/from_bam.md", ":3: 'split' is a key of BAM's"),
    ("Train: {merge: final}\n", 2, "'Train' is a key of BAM's configs, here sections data, model"),
    ("data: {split: 0}\n", 2, "'split' is a key of BAM's configs, here data.fold;"),
    ("model: {layers: 101}\n", 2, "'layers' is", "here net: resnet101 in this file, or NET=resnet101 with split0;"),
    ("meta_stage: {power: 0.9}\n", 2, "'power' is", "here schedule: poly of meta_stage.optimizers.main"),
    ("data: {zoom_factor: 8}\n", 2, "'zoom_factor' is", "here without a counterpart: leave it out;"),
    ("model: {name: symnett}\n", 2, "model.name = 'symnett'", "did you mean 'symnet'?"),
    ("data: {size: null}\n", 2, "data.size", "a whole number"),
    ("data: {size: {value: 97}}\n", 2, "data.size", "a whole number"),
    ("meta_stage: {augment: {scale: [1, up]}}\n", 2, "meta_stage.augment.scale[1]", "a number"),
    ("meta_stage: {optimizers: {main: {lr: 1e}}}\n", 2, "meta_stage.optimizers.main.lr", "a number"),
    ("data: {exclude_novel: 1}\n", 2, "data.exclude_novel", "true or false"),
    ("data: {root: {a: b}}\n", 2, "data.root", "text"),
    ("data: {classes: [cat, [dog]]}\n", 2, "data.classes[1]", "text"),
    ("test: {seeds: [1, 2.5]}\n", 2, "test.seeds[1]", "a whole number"),
    ("run: {precision: float16}\n", 2, "run.precision", "float32, tf32"),
    ("data: {size: 470}\n", 2, "data.size = 470", "16k + 1", "nearest: 465, 481"),
    ("data: {size: 25}\n", 2, "data.size = 25", "at least 33"),
    ("data: {folds: 3}\n", 2, "data.folds = 3", "divide the number of classes, 8"),
    (
        "data: {fold_rule: lists, folds: 2}\n",
        2,
        "data.folds = 2",
        "lists, which has one fold; write folds: 1, or another",
    ),
    ("data: {fold_rule: interleave}\n", 2, "data.fold_rule", "did you mean 'interleaved'?"),
    ("meta_stage: {optimizers: {main: {lr: 0}}}\n", 2, "meta_stage.optimizers.main.lr = 0.0", "at least 1e-09"),
    ("meta_stage: {optimizers: {main: {lr: .nan}}}\n", 2, "meta_stage.optimizers.main.lr = '.nan'", "a number"),
    ("meta_stage: {optimizers: {main: {kind: adamw, betas: [0.9, 0.9]}}}\n", 2, "unknown key", "betas"),
    ("meta_stage: {augment: {scale: [2, 1]}}\n", 2, "meta_stage.augment.scale = [2.0, 1.0]", "[least, largest]"),
    ("meta_stage: {augment: {scale: [1.0]}}\n", 2, "meta_stage.augment.scale = [1.0] has 1 values", "2 to 2"),
    ("meta_stage: {augment: {scale: [1e9, 1e9]}}\n", 2, "augment.scale = 1000000000.0", "between 0.01 and 100"),
    ("meta_stage: {augment: {keep_target: 1.5}}\n", 2, "keep_target = 1.5", "between 0 and 1"),
    ("test: {protocol: symnett}\n", 2, "test.protocol = 'symnett'", "did you mean 'symnet'?"),
    ("test: {seeds: []}\n", 2, "test.seeds"),
    (
        "meta_stage: {max_steps: 9, episodes: 9}\n",
        2,
        "'meta_stage.max_steps'; write meta_stage.epochs",
        "s'; write meta_stage.epoch_l",
    ),
    ("model: {encoder: {backbone: resnet51}}\n", 2, "model.encoder.backbone = 'resnet51'", "did you mean 'resnet"),
    ("model: {scales: [12, 6, 3, 2]}\ndata: {size: 97}\n", 2, "model.scales = [12, 6, 3, 2]", "start at 7"),
    ("model: {correlation: {kind: conv4d}}\n", 2, "model.correlation = {'kind': 'conv4d'}", "one of pooled, conv4d"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=[repr(text) for text, *_ in MISTAKES])
def test_a_mistake_is_named_with_place_and_fix(tmp_path: Path, mistake: tuple) -> None:
    text, line, *parts = mistake
    message = refusal(path := write_config(tmp_path, text))
    assert message.startswith(f"{path}:{line}: ") and all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("name", "settings"),
    {  # settings that mean nothing beside the others of a config
        "symnet": [
            "model.encoder.pretraining=none",
            *("base_stage.query=random", "meta_stage.images=all", "base_stage.augment.keep_target=0.5"),
            *("data.fold_classes=[[disc],[ring]]", "model.encoder.partial=true", "data.modalities={depth: kinect}"),
        ],
        "dcama": [
            *("meta_stage.patience=3", "meta_stage.validate_midway=true", "meta_stage.views=3"),
            *("meta_stage.validate_episodes=50", "meta_stage.validate_seed=1", "meta_stage.validate_on=base"),
            "meta_stage.augment={changes: [flip]}",
        ],
    }.items(),
)
def test_settings_without_effect_are_refused(mini_yaml, monkeypatch, name: str, settings: list[str]) -> None:
    monkeypatch.setitem(MODALITIES, "kinect", lambda photo, class_id: None)
    stage = {"optimizers": {"main": {"kind": "sgd", "schedule": "poly"}}}
    if "dcama" in name:
        stage = {"optimizers": {"main": {"kind": "adamw"}}, "validate_every": 0}
    path = mini_yaml(name, meta_stage=stage)
    for setting in settings:
        assert f"--set {setting}: {setting.partition('=')[0]} has no effect" in refusal(path, [setting])


@pytest.mark.parametrize("method", ["symnet", "dcama"])  # whose weights files of an encoder and of a method name
def test_a_file_states_the_data_of_the_weights_that_it_names_alone(method: str) -> None:
    def data(*overrides: str) -> str | None:
        given = [f"model.encoder.{override}" for override in overrides]
        return read_config(find_config("split0", "pascal", method, "resnet50"), given).model.encoder.pretraining

    assert (data(), data("weights=mine.pth"), data("pretraining=a", "weights=b.pth")) == ("ImageNet-1k", None, "a")


def test_inherited_settings_that_mean_nothing_have_their_defaults(mini_yaml) -> None:
    content = read_config(mini_yaml(meta_stage={"validate_every": 0}))
    assert content.meta_stage.patience == 0
    assert read.from_dict(read.to_dict(content), "stored") == dataclasses.replace(content, source=Path("stored"))


def test_settings_of_former_tests_and_runs_are_no_part_of_a_recorded_config(mini_yaml) -> None:
    content = to_dict(read_config(mini_yaml("ssp")))
    content["test"]["edges"] = True
    content["run"]["compile"] = True
    content["protocols"] |= {"symnet": {**content["protocols"]["symnet"], "absent": 0.0}, "presence": {"absent": 0.5}}
    config = from_dict(content, "a.pth")
    for other in ({"test": None}, {"protocols": [1]}):
        with pytest.raises(UserError, match=r"a\.pth: \w+ = .* must be a section"):
            from_dict({**content, **other}, "a.pth")
    assert "presence" not in config.protocols and config.test == from_dict(to_dict(config), "a.pth").test
    assert not differences(content, to_dict(config), Decides.WEIGHTS)  # a training of it continues
