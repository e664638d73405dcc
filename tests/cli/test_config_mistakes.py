"""Tests of wrong configs: each mistake is named with file, line, key and remedy."""

from pathlib import Path

import pytest

from tests.cli.configs import MINI, check_refusal, read_text, refusal, write_config
from util.config.read import read_config


@pytest.mark.parametrize("text", ["data: {fold: 1", "data: [1", "\tdata: 1", "data: !strange 3", "a: 1\n---\nb: 2"])
def test_broken_yaml_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    assert "run.yaml" in refusal(write_config(tmp_path, text))


@pytest.mark.parametrize("content", [b"- a\n- b\n", b"only words", b"\xff\xfe\x00\x9c", b"\x00\x01"])
def test_files_that_are_no_mapping_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    assert str(path) in refusal(path)


def test_config_without_base_lacks_its_sections(tmp_path: Path) -> None:
    message = refusal(write_config(tmp_path, "data: {fold: 1}\n", base=None))
    assert "is missing" in message
    assert "is missing" in refusal(write_config(tmp_path, "", base=None))


def test_mistake_in_a_base_is_named_there(tmp_path: Path) -> None:
    write_config(tmp_path, "data:\n  sise: 97\n", "low.yaml")
    assert refusal(write_config(tmp_path, "", base=Path("low.yaml"))).startswith(f"{tmp_path / 'low.yaml'}:3: ")


@pytest.mark.parametrize(("written", "value"), [("1e-4", 1e-4), ("1E-4", 1e-4), ("5e3", 5e3), ("1", 1.0), ("0.1", 0.1)])
def test_numbers_may_be_written_in_any_way(tmp_path: Path, written: str, value: float) -> None:
    """YAML 1.1 reads 1e-4, without a dot, as text."""
    stages = read_text(tmp_path, f"meta_stage: {{optimizers: {{main: {{lr: {written}}}}}}}\n")
    lr = stages.meta_stage.optimizers["main"].lr
    assert lr == value and isinstance(lr, float)
    assert read_config(MINI, [f"meta_stage.optimizers.main.lr={written}"]).meta_stage.optimizers["main"].lr == value


MISTAKES = [  # text, line, and parts of the message
    ("data: {fold: 1, fold: 2}\n", 2, ("is written twice",)),
    ("data:\n  fold: 1\n  shot: 1\n  fold: 1\n", 5, ("is written twice",)),
    ("data: {fold: 1}\nrun: {seed: 1}\ndata: {shot: 1}\n", 4, ("is written twice",)),
    ("base: other.yaml\n", 2, ("is written twice",)),
    ("data: {sise: 97}\n", 2, ("unknown key 'data.sise'", "did you mean 'size'?")),
    ("data:\n  fold: 1\n\n  # a comment\n  sise: 97\n", 6, ("unknown key 'data.sise'", "did you mean 'size'?")),
    (
        "meta_stage:\n  augment:\n    scal: [1, 1]\n",
        4,
        ("unknown key 'meta_stage.augment.scal'", "did you mean 'scale'?"),
    ),
    ("test: {qqqqqq: 1}\n", 2, ("unknown key 'test.qqqqqq'", "known: adapt, allow_fold_mismatch, ")),
    ("path: elsewhere\n", 2, ("unknown key 'path'",)),
    ("model: {name: symnett}\n", 2, ("model.name = 'symnett'", "did you mean 'symnet'?")),
    ("data: {size: big}\n", 2, ("data.size", "a whole number")),
    ("data: {size: null}\n", 2, ("data.size", "a whole number")),
    ("data: {size: {value: 97}}\n", 2, ("data.size", "a whole number")),
    ("meta_stage: {augment: {rotate: fast}}\n", 2, ("meta_stage.augment.rotate", "a number")),
    ("meta_stage: {augment: {scale: [1, up]}}\n", 2, ("meta_stage.augment.scale[1]", "a number")),
    ("meta_stage: {optimizers: {main: {lr: 1e}}}\n", 2, ("meta_stage.optimizers.main.lr", "a number")),
    ("data: {exclude_novel: 1}\n", 2, ("data.exclude_novel", "true or false")),
    ("data: {root: {a: b}}\n", 2, ("data.root", "text")),
    ("data: {classes: [cat, [dog]]}\n", 2, ("data.classes[1]", "text")),
    ("test: {seeds: [1, 2.5]}\n", 2, ("test.seeds[1]", "a whole number")),
    ("run: {precision: float16}\n", 2, ("run.precision", "float32, tf32")),
    ("data: {size: 470}\n", 2, ("data.size = 470", "8k + 1", "nearest: 465, 473")),
    ("data: {size: 25}\n", 2, ("data.size = 25", "at least 33")),
    ("data: {folds: 3}\n", 2, ("data.folds = 3", "divide the number of classes, 8")),
    ("data: {fold_rule: interleave}\n", 2, ("data.fold_rule", "did you mean 'interleaved'?")),
    ("meta_stage: {optimizers: {main: {lr: -0.1}}}\n", 2, ("meta_stage.optimizers.main.lr = -0.1", "at least 0")),
    ("meta_stage: {optimizers: {main: {lr: .nan}}}\n", 2, ("meta_stage.optimizers.main.lr = nan",)),
    ("meta_stage: {optimizers: {main: {kind: adamw, betas: [0.9]}}}\n", 2, ("meta_stage.optimizers.main.betas",)),
    ("meta_stage: {augment: {scale: [2, 1]}}\n", 2, ("meta_stage.augment.scale = [2.0, 1.0]", "[low, high]")),
    ("meta_stage: {augment: {flip_probability: 1.5}}\n", 2, ("flip_probability = 1.5", "between 0 and 1")),
    ("test: {protocol: symnett}\n", 2, ("test.protocol = 'symnett'", "did you mean 'symnet'?")),
    ("test: {seeds: []}\n", 2, ("test.seeds",)),
    ("model: {encoder: {backbone: resnet51}}\n", 2, ("model.encoder.backbone = 'resnet51'", "did you mean 'resnet")),
    (
        "model: {scales: [12, 6, 3, 2]}\ndata: {size: 97}\n",
        2,
        ("model.scales = [12, 6, 3, 2]", "start at 13", "data.size 97"),
    ),
    ("model: {name: symnet_plus, correlation: {support_grid: 8}}\n", 2, ("support_grid = 8", "leave it null")),
]


@pytest.mark.parametrize(("text", "line", "parts"), MISTAKES)
def test_a_mistake_is_named_with_place_and_mend(tmp_path: Path, text: str, line: int, parts: tuple[str, ...]) -> None:
    check_refusal(tmp_path, text, line, parts)


@pytest.mark.parametrize(
    ("entry", "key", "part"),
    [
        ("{scored_on: original}", "scored_on", "use letterbox or square"),
        ("{ways: 2, absent: 0.5}", "absent", "ways: 2"),
        ("{query: every, ways: 2}", "query", "one way"),
        ("{query: every, supports: with_replacement}", "query", "supports distinct"),
        ("{supports: first}", "supports", "query: pairs"),
        ("{episodes: null}", "episodes", "query: sequential; give a number"),
        ("{supports: published}", "supports", "query: every alone"),
        ("{support_pixels: 9}", "support_pixels", "query: every alone"),
        ("{input: original, scored_on: original, side: 97}", "side", "leave it null"),
    ],
)
def test_rules_of_a_protocol_that_do_not_go_together_are_named(entry: str, key: str, part: str) -> None:
    message = refusal(MINI, [f"protocols.mine={entry}"])
    assert f"protocols.mine.{key} = " in message and part in message, message


@pytest.mark.parametrize(
    "entry",
    ["{ways: 3}", "{absent: 0.5}", "{query: pairs, supports: first, episodes: null}", "{query: every, side: 65}"],
)
def test_rules_of_a_protocol_that_go_together_are_taken(entry: str) -> None:
    assert "mine" in read_config(MINI, [f"protocols.mine={entry}"]).protocols
