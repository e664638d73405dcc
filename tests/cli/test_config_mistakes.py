"""Tests of wrong configs: each mistake is named with file, line, key and remedy."""

from pathlib import Path

import pytest

from tests.cli.configs import MINI, check_refusal, read_text, refusal, write_config
from util.config.read import read_config

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
    check_refusal(tmp_path, text, line, ("is written twice",))


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


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "key", "hint"),
    [
        ("data: {sise: 97}\n", 2, "data.sise", "did you mean 'size'?"),
        ("data:\n  fold: 1\n\n  # a comment\n  sise: 97\n", 6, "data.sise", "did you mean 'size'?"),
        ("meta_stage:\n  augment:\n    scal: [1, 1]\n", 4, "meta_stage.augment.scal", "did you mean 'scale'?"),
        ("test: {qqqqqq: 1}\n", 2, "test.qqqqqq", "known: adapt, allow_fold_mismatch, "),
        ("path: elsewhere\n", 2, "path", ""),
    ],
)
def test_unknown_key_is_named_with_place_and_nearest_name(
    tmp_path: Path, text: str, line: int, key: str, hint: str
) -> None:
    check_refusal(tmp_path, text, line, (f"unknown key '{key}'", hint))


def test_mistake_in_a_base_is_named_there(tmp_path: Path) -> None:
    write_config(tmp_path, "data:\n  sise: 97\n", "low.yaml")
    assert refusal(write_config(tmp_path, "", base=Path("low.yaml"))).startswith(f"{tmp_path / 'low.yaml'}:3: ")


def test_unknown_model_is_named_with_the_nearest(tmp_path: Path) -> None:
    check_refusal(tmp_path, "model: {name: symnett}\n", 2, ("model.name = 'symnett'", "did you mean 'symnet'?"))


# --- types -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "wanted"),
    [
        ("data: {size: big}\n", "data.size", "a whole number"),
        ("data: {size: null}\n", "data.size", "a whole number"),
        ("data: {size: {value: 97}}\n", "data.size", "a whole number"),
        ("meta_stage: {augment: {rotate: fast}}\n", "meta_stage.augment.rotate", "a number"),
        ("meta_stage: {augment: {scale: [1, up]}}\n", "meta_stage.augment.scale[1]", "a number"),
        ("meta_stage: {optimizers: {main: {lr: 1e}}}\n", "meta_stage.optimizers.main.lr", "a number"),
        ("data: {exclude_novel: 1}\n", "data.exclude_novel", "true or false"),
        ("data: {root: {a: b}}\n", "data.root", "text"),
        ("data: {classes: [cat, [dog]]}\n", "data.classes[1]", "text"),
        ("test: {seeds: [1, 2.5]}\n", "test.seeds[1]", "a whole number"),
        ("run: {precision: float16}\n", "run.precision", "float32, tf32"),
    ],
)
def test_wrong_type_is_named_with_place_and_expected_type(tmp_path: Path, text: str, key: str, wanted: str) -> None:
    check_refusal(tmp_path, text, 2, (key, wanted))


@pytest.mark.parametrize(("written", "value"), [("1e-4", 1e-4), ("1E-4", 1e-4), ("5e3", 5e3), ("1", 1.0), ("0.1", 0.1)])
def test_numbers_may_be_written_in_any_way(tmp_path: Path, written: str, value: float) -> None:
    """YAML 1.1 reads 1e-4, without a dot, as text."""
    stages = read_text(tmp_path, f"meta_stage: {{optimizers: {{main: {{lr: {written}}}}}}}\n")
    lr = stages.meta_stage.optimizers["main"].lr
    assert lr == value and isinstance(lr, float)
    assert read_config(MINI, [f"meta_stage.optimizers.main.lr={written}"]).meta_stage.optimizers["main"].lr == value


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("data: {size: 470}\n", ("data.size = 470", "8k + 1", "nearest: 465, 473")),
        ("data: {size: 25}\n", ("data.size = 25", "at least 33")),
        ("data: {folds: 3}\n", ("data.folds = 3", "divide the number of classes, 8")),
        ("data: {fold_rule: interleave}\n", ("data.fold_rule", "did you mean 'interleaved'?")),
        ("meta_stage: {optimizers: {main: {lr: -0.1}}}\n", ("meta_stage.optimizers.main.lr = -0.1", "at least 0")),
        ("meta_stage: {optimizers: {main: {lr: .nan}}}\n", ("meta_stage.optimizers.main.lr = nan",)),
        ("meta_stage: {optimizers: {main: {kind: adamw, betas: [0.9]}}}\n", ("meta_stage.optimizers.main.betas",)),
        ("meta_stage: {augment: {scale: [2, 1]}}\n", ("meta_stage.augment.scale = [2.0, 1.0]", "[low, high]")),
        ("meta_stage: {augment: {flip_probability: 1.5}}\n", ("flip_probability = 1.5", "between 0 and 1")),
        ("test: {protocol: symnett}\n", ("test.protocol = 'symnett'", "did you mean 'symnet'?")),
        ("test: {seeds: []}\n", ("test.seeds",)),
        ("model: {encoder: {backbone: resnet51}}\n", ("model.encoder.backbone = 'resnet51'", "did you mean 'resnet")),
        (
            "model: {scales: [12, 6, 3, 2]}\ndata: {size: 97}\n",
            ("model.scales = [12, 6, 3, 2]", "start at 13", "data.size 97"),
        ),
        (
            "model: {name: symnet_plus, correlation: {support_grid: 8}}\n",
            ("support_grid = 8", "leave it null"),
        ),
    ],
)
def test_impossible_value_is_named_with_place_and_allowed_values(
    tmp_path: Path, text: str, parts: tuple[str, ...]
) -> None:
    check_refusal(tmp_path, text, 2, parts)


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
