"""Tests of configs: every file loads, published values arrive, and each mistake is named with file, line and mend."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from util.config import read_config, to_dict
from util.errors import UserError
from util.settings import Config

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "config"
MINI = CONFIGS / "mini/mini_split0_resnet18.yaml"
FILES = sorted(CONFIGS.glob("**/*split*.yaml"))
BACKBONES, FOLDS = ("resnet50", "resnet101", "vgg16"), range(4)
PUBLISHED = [(dataset, n, net) for dataset in ("pascal", "coco") for n in FOLDS for net in BACKBONES]
TIMEOUT = 600  # seconds; a machine may be busy


def _write(folder: Path, text: str, name: str = "run.yaml", base: Path | None = MINI) -> Path:
    """Write a config whose first line inherits from ``base``, so that ``text`` starts in line 2."""
    path = folder / name
    path.write_text((f"base: {base}\n" if base else "") + text)
    return path


def _read(folder: Path, text: str, overrides: list[str] | None = None) -> Config:
    return read_config(_write(folder, text), overrides)


def _refusal(path: Path, overrides: list[str] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        read_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def _check_refusal(folder: Path, text: str, line: int, parts: tuple[str, ...]) -> None:
    message = _refusal(_write(folder, text))
    assert message.startswith(f"{folder / 'run.yaml'}:{line}: ")
    assert all(part in message for part in parts), message


# --- the files that come with the project ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_config_loads(path: Path) -> None:
    config = read_config(path)
    dataset, split, *_ = path.stem.split("_")
    assert config.run.name == path.stem
    assert config.data.name == dataset == path.parent.name
    assert config.data.fold == int(split.removeprefix("split"))
    assert config.model.encoder.backbone in path.stem


def test_configs_of_every_fold_and_network_exist() -> None:
    names = {f"{p.parent.name}/{p.name}" for p in FILES}
    wanted = {f"{dataset}/{dataset}_split{n}_{net}.yaml" for dataset, n, net in PUBLISHED}
    wanted |= {f"mini/mini_split{n}_{net}.yaml" for n in FOLDS for net in ("resnet18", "prototype_resnet18")}
    assert wanted <= names


@pytest.mark.parametrize(("dataset", "fold", "net"), PUBLISHED)
def test_published_settings_common_to_all(dataset: str, fold: int, net: str) -> None:
    config = read_config(CONFIGS / f"{dataset}/{dataset}_split{fold}_{net}.yaml")
    data, base, meta = config.data, config.base_stage, config.meta_stage
    assert (data.fold, data.folds, data.shot, data.min_pixels, data.exclude_novel) == (fold, 4, 1, 2048, True)
    assert (data.text, config.run.seed, config.run.precision) == ("word2vec", 321, "float32")
    assert config.model.encoder.backbone == net
    assert (base.batch, base.batch_per, meta.batch, meta.batch_per) == (12, "run", 8, "process")
    for stage in (base, meta):
        main = stage.optimizers["main"]
        assert (main.kind, main.momentum, main.weight_decay) == ("sgd", 0.9, 1e-4)
        assert (main.schedule, main.power) == ("poly", 0.9)
        augment = stage.augment
        assert augment.rotate == 10
        assert augment.rotate_probability == augment.blur_probability == augment.flip_probability == 0.5
        assert stage.validate_every == 1
    assert (base.augment.keep_target, meta.augment.keep_target, meta.augment.keep_tries) == (0, 0.85, 30)
    assert meta.optimizers["main"].lr == 0.05 and meta.patience == 80
    assert config.test.protocol == "symnet"
    assert len(config.protocols["symnet"].seeds) == 5 and config.protocols["symnet"].query == "walk"


def test_published_settings_of_pascal() -> None:
    config = read_config(CONFIGS / "pascal/pascal_split0_resnet50.yaml")
    base, meta = config.base_stage, config.meta_stage
    assert (config.data.size, config.stage_size(base), config.stage_size(meta)) == (473, 417, 473)
    assert (base.epochs, meta.epochs) == (100, 200)
    assert base.optimizers["main"].lr == 2.5e-4
    assert config.model.base.head_lr_factor == 10
    assert (base.augment.scale, meta.augment.scale) == ([0.5, 2.0], [0.9, 1.1])
    assert config.protocols["symnet"].episodes == 1000
    assert config.data.fold_rule == "contiguous" and len(config.data.classes) == 20
    assert [config.data.classes[c - 1] for c in (1, 5, 15, 20)] == ["aeroplane", "bottle", "person", "tvmonitor"]


def test_published_settings_of_coco() -> None:
    config = read_config(CONFIGS / "coco/coco_split0_resnet50.yaml")
    base, meta = config.base_stage, config.meta_stage
    assert (config.data.size, config.stage_size(base), config.stage_size(meta)) == (641, 641, 641)
    assert config.model.scales == [81, 40, 20, 10]
    assert (base.epochs, meta.epochs) == (20, 50)
    assert base.optimizers["main"].lr == 2.5e-3
    assert config.model.base.head_lr_factor == 1
    assert (base.augment.scale, meta.augment.scale) == ([0.5, 2.0], [0.8, 1.25])
    assert config.protocols["symnet"].episodes == 5000
    assert config.data.fold_rule == "interleaved" and len(set(config.data.classes)) == 80
    assert [config.data.classes[c - 1] for c in (1, 12, 80)] == ["person", "stop sign", "toothbrush"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_written_config_reads_back_equal(tmp_path: Path, path: Path) -> None:
    config = read_config(path, ["run.seed=7", "meta_stage.optimizers.main.lr=3e-5"])
    copy = tmp_path / "copy.yaml"
    copy.write_text(yaml.safe_dump(to_dict(config), sort_keys=False))
    again = read_config(copy)
    assert again == config
    assert to_dict(again) == to_dict(config)


# --- inheritance -----------------------------------------------------------------------------------------------------


def test_later_bases_win_and_the_file_itself_wins_over_all(tmp_path: Path) -> None:
    _write(tmp_path, "data: {fold: 1, shot: 2, workers: 3}\nrun: {seed: 1}\n", "first.yaml")
    _write(tmp_path, "data: {fold: 2, shot: 5}\n", "second.yaml", base=None)
    path = _write(tmp_path, "base: [first.yaml, second.yaml]\ndata: {fold: 3}\n", base=None)
    config = read_config(path)
    assert (config.data.fold, config.data.shot, config.data.workers, config.run.seed) == (3, 5, 3, 1)
    other = _write(tmp_path, "base: [second.yaml, first.yaml]\n", "other.yaml", base=None)
    assert (read_config(other).data.fold, read_config(other).data.shot) == (1, 2)


def test_sections_are_merged_key_by_key_and_lists_replaced(tmp_path: Path) -> None:
    _write(tmp_path, "meta_stage: {augment: {scale: [0.5, 2.0], rotate: 3}}\ntest: {seeds: [1, 2, 3]}\n", "low.yaml")
    path = _write(tmp_path, "meta_stage: {augment: {rotate: 4}}\ntest: {seeds: [9]}\n", base=Path("low.yaml"))
    config = read_config(path)
    assert (config.meta_stage.augment.scale, config.meta_stage.augment.rotate) == ([0.5, 2.0], 4)
    assert config.test.seeds == [9]


def test_bases_are_sought_beside_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    _write(tmp_path, "data: {shot: 4}\n", "top.yaml")
    _write(tmp_path / "deep", "data: {fold: 2}\n", "middle.yaml", base=Path("../top.yaml"))
    path = _write(tmp_path / "deep/er", "", base=Path("../middle.yaml"))
    monkeypatch.chdir(REPOSITORY)
    config = read_config(path)
    assert (config.data.shot, config.data.fold) == (4, 2)


def test_a_base_reached_on_two_ways_is_no_circle(tmp_path: Path) -> None:
    _write(tmp_path, "data: {shot: 4}\n", "top.yaml")
    for side in ("left", "right"):
        _write(tmp_path, f"run: {{name: {side}}}\n", f"{side}.yaml", base=Path("top.yaml"))
    config = read_config(_write(tmp_path, "base: [left.yaml, right.yaml]\n", base=None))
    assert (config.data.shot, config.run.name) == (4, "right")


@pytest.mark.parametrize("links", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_circular_bases_are_refused(tmp_path: Path, links: list[str]) -> None:
    for link, following in zip(links, [*links[1:], links[0]], strict=True):
        _write(tmp_path, "", f"{link}.yaml", base=Path(f"{following}.yaml"))
    message = _refusal(tmp_path / "a.yaml")
    assert f"{links[0]}.yaml" in message and "leads back" in message


def test_missing_base_is_named(tmp_path: Path) -> None:
    message = _refusal(_write(tmp_path, "", base=Path("nowhere.yaml")))
    assert str(tmp_path / "nowhere.yaml") in message and "cannot read" in message


def test_missing_config_is_named(tmp_path: Path) -> None:
    message = _refusal(tmp_path / "nowhere.yaml")
    assert str(tmp_path / "nowhere.yaml") in message and "config/" in message
    assert str(tmp_path) in _refusal(tmp_path)


# --- broken files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("data: {fold: 1, fold: 2}\n", 2),
        ("data:\n  fold: 1\n  shot: 1\n  fold: 1\n", 5),
        ("data: {fold: 1}\nrun: {seed: 1}\ndata: {shot: 1}\n", 4),
        ("base: other.yaml\n", 2),
    ],
)
def test_key_written_twice_is_refused(tmp_path: Path, text: str, line: int) -> None:
    _check_refusal(tmp_path, text, line, ("is written twice",))


@pytest.mark.parametrize("text", ["data: {fold: 1", "data: [1", "\tdata: 1", "data: !strange 3", "a: 1\n---\nb: 2"])
def test_broken_yaml_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    assert "run.yaml" in _refusal(_write(tmp_path, text))


@pytest.mark.parametrize("content", [b"- a\n- b\n", b"only words", b"\xff\xfe\x00\x9c", b"\x00\x01"])
def test_files_that_are_no_mapping_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    assert str(path) in _refusal(path)


def test_config_without_base_lacks_its_sections(tmp_path: Path) -> None:
    message = _refusal(_write(tmp_path, "data: {fold: 1}\n", base=None))
    assert "is missing" in message and "base: " in message
    assert "is missing" in _refusal(_write(tmp_path, "", base=None))


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "key", "hint"),
    [
        ("data: {sise: 97}\n", 2, "data.sise", "did you mean 'size'?"),
        ("data:\n  fold: 1\n\n  # a comment\n  sise: 97\n", 6, "data.sise", "did you mean 'size'?"),
        ("dta: {fold: 1}\n", 2, "dta", "did you mean 'data'?"),
        ("meta_stage:\n  augment:\n    scal: [1, 1]\n", 4, "meta_stage.augment.scal", "did you mean 'scale'?"),
        ("base_stage: {optimizers: {main: {lrr: 1}}}\n", 2, "base_stage.optimizers.main.lrr", "did you mean 'lr'?"),
        ("model: {auxweight: 1}\n", 2, "model.auxweight", "did you mean 'aux_weight'?"),
        ("model: {encoder: {backbon: vgg16}}\n", 2, "model.encoder.backbon", "did you mean 'backbone'?"),
        ("protocols: {symnet: {episode: 3}}\n", 2, "protocols.symnet.episode", "did you mean 'episodes'?"),
        ("test: {qqqqqq: 1}\n", 2, "test.qqqqqq", "known: allow_fold_mismatch, batch, "),
        ("path: elsewhere\n", 2, "path", ""),
    ],
)
def test_unknown_key_is_named_with_place_and_nearest_name(
    tmp_path: Path, text: str, line: int, key: str, hint: str
) -> None:
    _check_refusal(tmp_path, text, line, (f"unknown key '{key}'", hint))


def test_mistake_in_a_base_is_named_there(tmp_path: Path) -> None:
    _write(tmp_path, "data:\n  sise: 97\n", "low.yaml")
    assert _refusal(_write(tmp_path, "", base=Path("low.yaml"))).startswith(f"{tmp_path / 'low.yaml'}:3: ")


def test_unknown_model_is_named_with_the_nearest(tmp_path: Path) -> None:
    _check_refusal(tmp_path, "model: {name: symnett}\n", 2, ("model.name = 'symnett'", "did you mean 'symnet'?"))


def test_keys_of_another_model_are_refused(tmp_path: Path) -> None:
    assert "unknown key 'model." in _refusal(_write(tmp_path, "model: {name: prototype}\n"))


# --- types -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "wanted"),
    [
        ("data: {size: big}\n", "data.size", "a whole number"),
        ("data: {size: 97.0}\n", "data.size", "a whole number"),
        ("data: {size: [97]}\n", "data.size", "a whole number"),
        ("data: {size: true}\n", "data.size", "a whole number"),
        ("data: {size: null}\n", "data.size", "a whole number"),
        ("data: {size: {value: 97}}\n", "data.size", "a whole number, not a section"),
        ("meta_stage: {size: half}\n", "meta_stage.size", "a whole number"),
        ("meta_stage: {augment: {rotate: fast}}\n", "meta_stage.augment.rotate", "a number"),
        ("meta_stage: {augment: {rotate: true}}\n", "meta_stage.augment.rotate", "a number"),
        ("meta_stage: {augment: {rotate: [1]}}\n", "meta_stage.augment.rotate", "a number"),
        ("meta_stage: {augment: {scale: 1}}\n", "meta_stage.augment.scale", "a list, each a number"),
        ("meta_stage: {augment: {scale: [1, up]}}\n", "meta_stage.augment.scale[1]", "a number"),
        ("meta_stage: {optimizers: {main: {lr: 1e}}}\n", "meta_stage.optimizers.main.lr", "a number"),
        ("meta_stage: {optimizers: {main: {lr: false}}}\n", "meta_stage.optimizers.main.lr", "a number"),
        ("meta_stage: {optimizers: 3}\n", "meta_stage.optimizers", "a section"),
        ("meta_stage: {optimizers: {main: 3}}\n", "meta_stage.optimizers.main", "a section"),
        ("data: {exclude_novel: 1}\n", "data.exclude_novel", "true or false"),
        ("data: {exclude_novel: maybe}\n", "data.exclude_novel", "true or false"),
        ("data: {root: [a]}\n", "data.root", "text"),
        ("data: {root: true}\n", "data.root", "text"),
        ("data: {root: null}\n", "data.root", "text"),
        ("data: {root: {a: b}}\n", "data.root", "text, not a section"),
        ("data: {classes: cat}\n", "data.classes", "a list, each text"),
        ("data: {classes: [cat, [dog]]}\n", "data.classes[1]", "text"),
        ("data: {classes: [cat, {dog: 1}]}\n", "data.classes[1]", "text"),
        ("test: {seeds: 3}\n", "test.seeds", "a list, each a whole number"),
        ("test: {seeds: [1, 2.5]}\n", "test.seeds[1]", "a whole number"),
        ("data: 5\n", "data", "a section"),
        ("data:\n", "data", "a section"),
        ("data: [a, b]\n", "data", "a section"),
        ("protocols: 3\n", "protocols", "a section"),
        ("run: {precision: float16}\n", "run.precision", "float32, bf16"),
        ("run: {precision: [bf16]}\n", "run.precision", "float32, bf16"),
    ],
)
def test_wrong_type_is_named_with_place_and_what_is_wanted(tmp_path: Path, text: str, key: str, wanted: str) -> None:
    _check_refusal(tmp_path, text, 2, (key, wanted))


@pytest.mark.parametrize(("written", "value"), [("1e-4", 1e-4), ("1E-4", 1e-4), ("5e3", 5e3), ("1", 1.0), ("0.1", 0.1)])
def test_numbers_may_be_written_in_any_way(tmp_path: Path, written: str, value: float) -> None:
    """YAML 1.1 reads 1e-4, without a dot, as text."""
    stages = _read(tmp_path, f"meta_stage: {{optimizers: {{main: {{lr: {written}}}}}}}\n")
    lr = stages.meta_stage.optimizers["main"].lr
    assert lr == value and isinstance(lr, float)
    assert read_config(MINI, [f"meta_stage.optimizers.main.lr={written}"]).meta_stage.optimizers["main"].lr == value


def test_a_number_serves_as_a_name(tmp_path: Path) -> None:
    assert _read(tmp_path, "run: {name: 7}\n").run.name == "7"


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("data: {size: 470}\n", ("data.size = 470", "8k + 1", "nearest: 465, 473")),
        ("data: {size: 25}\n", ("data.size = 25", "at least 33")),
        ("base_stage: {size: 100}\n", ("base_stage.size = 100", "nearest: 97, 105")),
        ("data: {fold: 7}\n", ("data.fold = 7", "0..3")),
        ("data: {fold: 4}\n", ("data.fold = 4", "0..3")),
        ("data: {fold: -1}\n", ("data.fold = -1", "at least 0")),
        ("data: {folds: 3}\n", ("data.folds = 3", "divide the number of classes, 8")),
        ("data: {shot: 0}\n", ("data.shot = 0", "at least 1")),
        ("data: {workers: -1}\n", ("data.workers = -1", "at least 0")),
        ("data: {fold_rule: interleave}\n", ("data.fold_rule", "did you mean 'interleaved'?")),
        ("data: {classes: []}\n", ("data.classes",)),
        ("meta_stage: {optimizers: {main: {lr: -0.1}}}\n", ("meta_stage.optimizers.main.lr = -0.1", "at least 0")),
        ("meta_stage: {optimizers: {main: {lr: -1e-4}}}\n", ("meta_stage.optimizers.main.lr", "at least 0")),
        ("meta_stage: {optimizers: {main: {lr: .nan}}}\n", ("meta_stage.optimizers.main.lr = nan",)),
        ("meta_stage: {optimizers: {main: {lr: .inf}}}\n", ("meta_stage.optimizers.main.lr = inf",)),
        ("meta_stage: {optimizers: {main: {momentum: 2}}}\n", ("meta_stage.optimizers.main.momentum", "0 and 1")),
        ("meta_stage: {optimizers: {main: {kind: adamw, betas: [0.9]}}}\n", ("meta_stage.optimizers.main.betas",)),
        ("meta_stage: {augment: {scale: [2, 1]}}\n", ("meta_stage.augment.scale = [2.0, 1.0]", "[low, high]")),
        ("base_stage: {augment: {scale: [1]}}\n", ("base_stage.augment.scale = [1.0]", "must hold 2 values")),
        ("base_stage: {augment: {scale: [0, 1]}}\n", ("base_stage.augment.scale = 0", "at least 0.01")),
        ("meta_stage: {augment: {flip_probability: 1.5}}\n", ("flip_probability = 1.5", "between 0 and 1")),
        ("test: {protocol: symnett}\n", ("test.protocol = 'symnett'", "did you mean 'symnet'?")),
        ("test: {episodes: 0}\n", ("test.episodes = 0", "at least 1")),
        ("test: {seeds: []}\n", ("test.seeds",)),
        ("protocols: {symnet: {seeds: []}}\n", ("protocols.symnet.seeds",)),
        ("model: {encoder: {backbone: resnet51}}\n", ("model.encoder.backbone = 'resnet51'", "did you mean 'resnet")),
        (
            "model: {scales: [12, 6, 3, 2]}\ndata: {size: 97}\n",
            ("model.scales = [12, 6, 3, 2]", "start at 13", "data.size 97"),
        ),
        ("model: {scales: []}\n", ("model.scales",)),
    ],
)
def test_impossible_value_is_named_with_place_and_what_is_allowed(
    tmp_path: Path, text: str, parts: tuple[str, ...]
) -> None:
    _check_refusal(tmp_path, text, 2, parts)


# --- overrides -------------------------------------------------------------------------------------------------------


def test_overrides_win_over_files_and_later_ones_over_earlier(tmp_path: Path) -> None:
    overrides = ["data.fold=2", "meta_stage.augment.scale=[0.5, 1.5]", "data.fold=3", "test.seeds=[4]", "run.name=x=y"]
    config = _read(tmp_path, "data: {fold: 1, shot: 5}\n", overrides)
    assert (config.data.fold, config.data.shot, config.test.seeds) == (3, 5, [4])
    assert config.meta_stage.augment.scale == [0.5, 1.5]
    assert config.run.name == "x=y"


def test_override_can_take_a_value_back_to_null(tmp_path: Path) -> None:
    config = _read(tmp_path, "meta_stage: {size: 65}\n", ["meta_stage.size=null"])
    assert config.meta_stage.size is None and config.stage_size(config.meta_stage) == config.data.size


def test_override_reaches_a_protocol_and_the_model() -> None:
    config = read_config(MINI, ["protocols.symnet.episodes=12", "model.encoder.backbone=resnet34"])
    assert config.protocols["symnet"].episodes == 12 and config.model.encoder.backbone == "resnet34"


@pytest.mark.parametrize("text", ["data.fold", "=3", "", "data"])
def test_malformed_override_is_refused_with_the_form(text: str) -> None:
    message = _refusal(MINI, [text])
    assert f"--set {text}".strip() in message and "section.key=value" in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("data.sise=97", ("unknown key 'data.sise'", "did you mean 'size'?")),
        ("dta.size=97", ("unknown key 'dta'", "did you mean 'data'?")),
        ("data.size.x=97", ("data.size", "not a section")),
        ("data=3", ("data must be a section",)),
        ("base=other.yaml", ("unknown key 'base'",)),
        ("path=other.yaml", ("unknown key 'path'",)),
        ("data..size=97", ("unknown key",)),
        ("data.size=big", ("data.size = 'big'", "a whole number")),
        ("data.size=470", ("nearest: 465, 473",)),
        ("data.fold=7", ("0..3",)),
        ("test.protocol=symnett", ("did you mean 'symnet'?",)),
        ("test.seeds=[1", ("not a YAML value",)),
        ("run.name=2024-13-45", ("run.name=2024-13-45",)),
    ],
)
def test_wrong_override_is_named(text: str, parts: tuple[str, ...]) -> None:
    message = _refusal(MINI, [text])
    assert message.startswith(f"--set {text}: ")
    assert all(part in message for part in parts), message


# --- as a user meets it ----------------------------------------------------------------------------------------------


def test_bad_config_ends_a_script_with_one_line_and_code_2(tmp_path: Path) -> None:
    path = _write(tmp_path, "run:\n  seed: 1\ndata:\n  size: 470\n")
    run = subprocess.run(
        [sys.executable, "train.py", str(path)], cwd=REPOSITORY, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr == f"error: {path}:5: data.size = 470 is not 8k + 1; nearest: 465, 473\n"
