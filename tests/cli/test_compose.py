"""The commands' choice of a config: the files of data set, fold, method and encoder, printed, listed, or refused."""

import re
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from datasets.make import begin_own_configs
from model.registry import class_of, methods
from tests.helpers.paths import REPOSITORY
from util.config import command_line
from util.config.compose import files_of, find_config, read_tree
from util.config.folder import config_folder, data_sets, method_names
from util.config.parts import merged
from util.config.read import read_config, to_dict
from util.config.tree import Tree, bases_of, parse_file, place_of, settings_of, value_of, with_places
from util.files.errors import UserError
from util.files.writing import write_atomically

CONFIGS = REPOSITORY / "config"


def recipes() -> list[Path]:
    """Return the files of data sets for methods, with and without an encoder."""
    known = method_names()
    paths = (path for name in data_sets() for path in (CONFIGS / name).glob("*.yaml"))
    return sorted(path.relative_to(CONFIGS) for path in paths if path.stem.partition("_")[0] in known)


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of ``config/`` in the working folder."""
    copy = Path(shutil.copytree(CONFIGS, tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return copy


def read(*words: str | None):
    return read_config(find_config(*words))


LR = "meta_stage.optimizers.main.lr"
PLACES = [  # data set, method and encoder; the files that some of their settings come from
    ("coco", "ssp", "resnet50", {"data.fold_rule": "coco/ssp", "data.classes": "coco/coco"}),
    ("coco", "ssp", "resnet101", {LR: "model/ssp", "model.encoder.weights": "encoder/resnet101"}),
    ("coco", "hsnet", "resnet101", {LR: "model/hsnet", "model.encoder.weights": "model/hsnet"}),
    ("laptop", "ssp", "lite0", {LR: "laptop/ssp", "data.size": "laptop/laptop", "model.refine": "pascal/ssp"}),
    ("mini", "ssp", "resnet10", {"meta_stage.epochs": "mini/ssp", "model.encoder.weights": "mini/over_base_stage"}),
    ("mini", "symnet", "lite1", {"meta_stage.views": "mini/symnet", "model.encoder.backbone": "encoder/lite1"}),
    ("coco", "ssp", "lite1", {LR: "model/ssp", "data.size": "coco/ssp", "model.encoder.weights": "encoder/lite0"}),
    ("coco", "symnet", "vgg16", {"model.scales": "coco/symnet", "model.encoder.backbone": "encoder/vgg16"}),
    ("coco", "symnet", "resnet50", {"model.scales": "coco/symnet", LR: "model/symnet"}),
    ("isic", "hsnet", "resnet50", {"test.protocol": "isic/isic", LR: "model/hsnet"}),
    ("fss1000", "insid3", "dinov3_vitl16", {"model.components": "model/insid3"}),
]


@pytest.mark.parametrize(("dataset", "method", "net", "files"), PLACES)
def test_each_value_comes_from_the_file_that_has_it(dataset: str, method: str, net: str, files: dict[str, str]) -> None:
    tree = read_tree(find_config("split0", dataset, method, net))
    for key, file in files.items():
        assert Path(str(place_of(tree, key)).rpartition(":")[0]).resolve() == CONFIGS / f"{file}.yaml", key


METHODS = [name for name in method_names() if name not in ("gfsam", "sam3", "sansa")]  # with an encoder


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_every_encoder_that_offers_what_it_needs(method: str) -> None:
    config = read("split2", "pascal", method, "resnet50")
    cls = class_of(config.model)
    for encoder in ("resnet50_plain", "swin_b", "vgg16"):
        other = replace(config.model.encoder, backbone=encoder.removesuffix("_plain"))
        refused = pytest.raises(
            UserError, match=rf"encoder/{encoder}.yaml:\d+: model.encoder.backbone = .* not go with"
        )
        with refused if cls.encoder_problem(replace(config.model, encoder=other)) else nullcontext():
            config = read("split2", "laptop", method, encoder)
            assert (config.run.name.endswith(f"_{encoder}"), config.model.encoder.backbone) == (True, other.backbone)


@pytest.mark.parametrize("path", recipes(), ids=str)
def test_a_recipe_is_a_config_and_so_is_its_copy(configs: Path, path: Path) -> None:
    config = read_config(CONFIGS / path)
    assert config.run.name == path.stem and config.data.fold == 0
    by_words = read("split0", path.parent.name, path.stem)
    assert replace(by_words, run=replace(by_words.run, name=path.stem)) == config
    copy = Path(shutil.copy(configs / path, configs / path.parent / "mine.yaml"))
    assert replace(read_config(copy), run=config.run) == config
    assert copy.read_text().startswith("# ")


SIDES = {"test_vit.r160_in1k": (97, 81, 80), "test_resnet": (96, 81, 81), "test_mambaout": (96, 96, 81)}


@pytest.mark.parametrize(("backbone", "sides"), [(f"timm/{name}", sides) for name, sides in SIDES.items()])
def test_a_network_of_timm_names_its_run_and_fits_its_sides(backbone: str, sides: tuple[int, ...]) -> None:
    for method, side in zip(("dcama", "ssp", "insid3"), sides):
        config = read("split1", "mini", method, backbone)
        assert config.run.name == f"mini_split1_{method}_{backbone.replace('/', '-')}"
        assert (config.model.encoder_name(), config.model.encoder.weights) == (backbone, "timm")
        assert config.data.size == side
    with pytest.raises(UserError, match=r"--set data.size=80: data.size = 80 is not "):
        read_config(find_config("split1", "mini", "ssp", backbone), ["data.size=80"])
    shared = {read("split1", "mini", method, "timm/test_vit").run.base_folder for method in ("hdmnet", "bam")}
    assert shared == {"runs/mini_split1_timm-test_vit/base"}


def test_a_file_has_a_run_of_its_own_and_the_base_stage_of_its_bases(configs: Path) -> None:
    mine, other = (configs / f"mini/{name}.yaml" for name in ("mine", "other"))
    mine.write_text("base: hdmnet.yaml")
    run = read_config(mine).run
    assert (run.name, run.base_folder) == ("mine", "runs/mini_split0_resnet10/base")
    assert read_config(mine, ["run.folder=/other"]).run.base_folder == "/other/mini_split0_resnet10/base"
    other.write_text("base: mine.yaml\nrun: {base_folder: null}")
    assert read_config(other).run.base_folder is None
    other.write_text("base: [mine.yaml, gone.yaml]")
    with pytest.raises(UserError, match=r"other.yaml: base: gone.yaml is neither beside it nor in this folder; write"):
        read_config(other)


@pytest.mark.parametrize("word", ["mine", "mine.yaml", "{folder}/mini/mine.yaml", "{folder}/mini/mine"])
def test_a_file_is_named_by_its_name_or_path(configs: Path, word: str) -> None:
    mine = configs / "mini/mine.yaml"
    mine.write_text("base: [mini.yaml, ../model/bam.yaml]")
    assert find_config(word.format(folder=configs), "mini").files[-1].resolve() == mine


OWN_FILES = [  # their bases and values, and those of the file common that some have as a base
    ("mine", "base: [mini/ssp, encoder/lite1]\ndata: {fold: 2}", ""),
    ("mine", "base: [mini/ssp.yaml, encoder/lite1.yaml]\ndata: {fold: 2}", ""),
    ("mine", "base: common\nnet: lite1", "base: mini/ssp\ndata: {fold: 2}"),
    ("mine", "base: common", "base: mini/over_ssp\nnet: lite1\ndata: {fold: 2}"),
    ("mine", "base: mini_split2_ssp_lite1", "base: mini/ssp"),
    ("mine", "base: mini_split1_ssp_lite1\ndata: {fold: 2}", "base: mini/ssp"),
    ("mini_split2_ssp_lite1", "base: mini/ssp", ""),
    ("split2_lite1", "base: mini/ssp", ""),
    ("ssp", "base: common\nnet: lite1", "base: mini/ssp\nnet: vgg16\ndata: {fold: 2}"),
]


@pytest.mark.parametrize(("name", "content", "common"), OWN_FILES)
def test_an_own_file_elsewhere_gives_the_third_rules_config(
    configs: Path, name: str, content: str, common: str
) -> None:
    """An encoder that it, its name or its base names, or the fold of a name, is that of the words."""
    composed = read("split2", "mini", "ssp", "lite1")
    (configs / "mini/over_ssp.yaml").write_text("base: [ssp, ../encoder/vgg16]")
    for base in ("common", "mini_split1_ssp_lite1", "mini_split2_ssp_lite1"):
        (configs / f"{base}.yaml").write_text(f"{common}\nmeta_stage: {{epochs: 3}}")
    mine = configs / f"{name}.yaml"
    mine.write_text(f"{content}\nmeta_stage: {{epochs: 3}}")
    stage = replace(composed.meta_stage, epochs=3)
    assert read_config(mine) == replace(composed, meta_stage=stage, run=replace(composed.run, name=name))


RUN_NAMES = [  # words; the file of their run's name, and its content
    (("split1", "pascal"), "pascal/pascal_split1_resnet50", "base: symnet.yaml"),
    (("split1", "coco", None, "lite0"), "coco/coco_split1_lite0", "base: symnet.yaml"),
    (("split1", "coco", "pocket"), "coco/coco_split1_pocket_lite0", "base: pocket.yaml"),
    (("split1", "mini", None, "timm/test_vit"), "mini/mini_split1_timm-test_vit", "base: symnet.yaml"),
    (("split1", "mini", "ssp"), "mini/mini_split1_ssp_resnet10", "base: ssp"),
    (("split1", "mini", None, "lite0"), "mini/mini_split1_symnet_lite0", "base: symnet"),
]


@pytest.mark.parametrize(("words", "file", "content"), RUN_NAMES, ids=[file for _, file, _ in RUN_NAMES])
def test_the_file_of_the_run_s_name_is_the_first(configs: Path, words: tuple, file: str, content: str) -> None:
    """By the words of a command, whose other settings stay as they were, and by its path; its values win."""
    path = Path(f"config/{file}.yaml")
    path.unlink(missing_ok=True)
    before = read(*words)
    path.write_text(f"{content}\ndata: {{fold: 1, size: 97}}\nrun: {{seed: 7}}")
    after = read(*words)
    data, run = replace(before.data, size=97), replace(before.run, seed=7)
    assert after == replace(before, data=data, run=run) == read_config(path)
    assert files_of(after.source).endswith(f".yaml + {path}")


WRONG = {  # what the file of split1 and vgg16 states
    "data: {fold: 2}": "data.fold = 2 in the file of split1; write 1",
    "net: lite0": "net = 'lite0' in the file of vgg16; write vgg16",
    "net: [lite0]": "net = ['lite0'] in the file of vgg16; write vgg16",
    "data: {size: 470}": "data.size = 470 is not 8k",  # only inherited sides become the nearest that a method takes
}


def test_the_file_of_a_run_serves_torchvisions_encoder_too_and_no_other_fold(configs: Path) -> None:
    (configs / "pascal/pascal_split2_resnet50.yaml").write_text("base: symnet.yaml\ndata: {fold: 2, shot: 5}")
    plain = read("split2", "pascal", None, "resnet50_plain")
    assert (plain.data.shot, plain.model.encoder.stem, plain.run.name) == (5, "plain", "pascal_split2_resnet50_plain")
    other = configs / "pascal/pascal_split1_vgg16.yaml"
    for stated, said in WRONG.items():
        other.write_text(f"base: symnet.yaml\n{stated}")
        for words in (("split1", "pascal", None, "vgg16"), ("pascal_split1_vgg16", "pascal")):
            with pytest.raises(UserError, match=f"pascal_split1_vgg16.yaml:2: {re.escape(said)}"):
                read(*words)


CHANGES = [  # what mine.yaml says beside its base; a config's bases with it; epochs then
    ("encoders: {lite0: {meta_stage: {epochs: 9}}}", "mine, M/ssp, E/lite0", 9),
    ("encoders: {lite0: {meta_stage: {epochs: 9}}}", "mine, M/ssp, E/lite1", 9),  # which extends it
    ("encoders: {lite0: {meta_stage: {epochs: 9}}}", "E/lite0, M/ssp, mine", 9),
    ("encoders: {lite0: {meta_stage: {epochs: 9}}}", "mine, M/ssp, E/lite0, E/vgg16", 20),
    ("encoders: {lite0: {meta_stage: {epochs: 9}}}\nnet: lite1", "mine, M/ssp", 9),
    ("encoders: {lite0: {meta_stage: {epochs: 9}}}\nnet: lite0", "mine, M/ssp, E/vgg16", 20),
]


@pytest.mark.parametrize(("changes", "bases", "epochs"), CHANGES)
def test_what_a_file_changes_with_an_encoder_comes_after_both(
    configs: Path, changes: str, bases: str, epochs: int
) -> None:
    (configs / "mini/mine.yaml").write_text(f"base: mini.yaml\n{changes}")
    heir = configs / "mini/heir.yaml"
    heir.write_text(f"base: [{bases.replace('M/', '../model/').replace('E/', '../encoder/')}]")
    assert read_config(heir).meta_stage.epochs == epochs


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ("encoders:\n  lite00: {run: {seed: 9}}", r"3: encoders.lite00: no section of .* did you mean 'lite0'\?"),
        ("encoders: {lite0: 3}", "2: encoders.lite0: no section of a known encoder"),
        ("encoders: 3", "2: encoders.: no section of a known encoder"),
    ],
)
def test_changes_with_an_encoder_that_is_none_are_refused(configs: Path, changes: str, says: str) -> None:
    mine = configs / "mini/mine.yaml"
    mine.write_text(f"base: [mini.yaml, ../model/symnet.yaml, ../encoder/lite0.yaml]\n{changes}")
    with pytest.raises(UserError, match=f"mine.yaml:{says}"):
        read_config(mine)


def leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of a tree."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value.value


METHOD_FILES = [path.relative_to(CONFIGS) for path in (CONFIGS / "model").glob("*.yaml")]


@pytest.mark.parametrize("path", sorted([*METHOD_FILES, *recipes()]), ids=str)
def test_a_value_stands_once(path: Path) -> None:
    """A method's file repeats no default of its settings but names of networks, a data set's no value of its bases."""
    content = parse_file(CONFIGS / path)
    if path.parent.name == "model":
        defaults = methods()[value_of(content, "model.name")].Settings()
        own = {"model": content["model"]}
        before = leaves(with_places({"model": asdict(defaults)}, ""))
    else:
        own = settings_of(content)
        before = leaves(merged([CONFIGS / path.parent / base for base in bases_of(CONFIGS / path)]))
    stated = {(key, str(value)) for key, value in leaves(own)}
    repeated = stated.intersection((key, str(value)) for key, value in before)
    assert {key for key, _ in repeated if not key.endswith((".weights", ".pretraining"))} == set()


FOLD_FILES = sorted(path for name in ("pascal", "coco") for path in (CONFIGS / name).glob("*_split?_resnet50.yaml"))


@pytest.mark.parametrize("path", FOLD_FILES, ids=lambda path: path.stem)
def test_the_commented_lines_of_a_fold_s_file_state_what_it_inherits(configs: Path, path: Path) -> None:
    """Each may be uncommented, alone or with all others, and none changes the config before its value is changed."""
    file = configs / path.relative_to(CONFIGS)
    before = to_dict(read_config(file))
    lines = file.read_text().splitlines()
    commented = [i for i, line in enumerate(lines) if line.startswith("  # ")]
    assert len(commented) >= 12
    for chosen in (commented, commented[:1], commented[-1:]):
        uncommented = [*lines]
        for number in chosen:
            uncommented[number] = lines[number].replace("# ", "", 1)
        file.write_text("\n".join(uncommented))
        assert len([*leaves(parse_file(file))]) > 2 + len(chosen) // 2
        assert to_dict(read_config(file)) == before
    _, fold, net = path.stem.split("_")
    assert to_dict(read(fold, path.parent.name, None, net)) == before


def test_a_data_set_of_one_file_serves_every_method(configs: Path) -> None:
    content = (configs / "mini/mini.yaml").read_text()
    (configs / "pets").mkdir()
    (configs / "pets/pets.yaml").write_text(content.replace("net: resnet10", "").replace("name: mini", "name: pets"))
    assert str(find_config("split1", "pets")) == "split1 pets --model symnet --net resnet50"
    for method in METHODS:
        config = read("split1", "pets", method, "resnet50_plain")
        assert config.data.text == ("names" if class_of(config.model).reads_text else "none")


FILE = "config/mini/mini_demo.yaml"
REFUSED = {  # words of a command; parts of its one line
    "split0 pascal --model dcama --net vgg16": ("encoder/vgg16.yaml:", "does not go with DCAMA", "takes resnet10, "),
    "split0 pascal --model sspp": ("sspp: no such method", "did you mean 'ssp'?"),
    "split0 pascal --net resnet51": ("NET resnet51: no such encoder", "did you mean 'resnet50'?"),
    "split0 pascal --net timm": ("NET timm: no such encoder",),
    "split0 pascal --net test_vit.r160_in1k": ("one of timm is timm/test_vit.r160_in1k",),
    "split0 mini --model ssp --net timm/test_vit2.r160": (
        "= 'timm/test_vit2.r160': timm knows no weights",
        "r160_in1k",
    ),
    "split0 mini --model hsnet --net timm/test_vit": ("HSNet: it needs stages 2, 3 and 4", "timm/resnet50"),
    "split0 pascall": ("config/pascall: no such data set", "did you mean 'pascal'?"),
    "split9 pascal": ("split9 pascal --model symnet --net resnet50: data.fold = 9 does not exist",),
    "split0 pascal --model sam3_words": ("no such method; did you mean 'sam3'?", "--list prints"),
    "mini_dmo mini": ("mini_dmo: no such config for mini; did you mean 'mini_demo'?; name a fold, such as split0",),
    "config/mini/mini_dmo.yaml mini": ("mini_dmo.yaml: no such config for mini; did you mean 'mini_demo'?",),
    "mini_demo mini --model ssp": (f"{FILE}: names its method and encoder itself; leave out --model, --net, MODEL",),
    f"{FILE} --net vgg16": (f"{FILE}: names its method and encoder itself; leave out --model, --net",),
    "split1": ("cannot read this config",),
    "split1 pascal 4": ("name a YAML file, or an experiment and a data set",),
    "config/pascal/pascal_split0_ssp_resnet101.yaml": ("cannot read", "python train.py --list prints what there is"),
}


@pytest.mark.parametrize("words", REFUSED)
def test_words_that_stand_for_no_config_are_refused_in_one_line(words: str) -> None:
    with pytest.raises(UserError) as caught:
        command_line.read(command_line.parser(None).parse_args(words.split()))
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in REFUSED[words]), message


@pytest.mark.parametrize(
    "words",
    [
        "--print-config config/pascal/symnet.yaml",
        "--print-whole-config split3 coco --model dcama --net swin_b",
        "--print-whole-config config/mini/mini_demo.yaml",
    ],
)
def test_a_printed_config_reads_back_equal(tmp_path: Path, capsys, words: str) -> None:
    """A page shows the values that differ from the defaults, with the protocol of its test alone."""
    overrides = ["--set", "run.seed=7", "--set", "meta_stage.optimizers.main.lr=3e-5"]
    options = command_line.parser(None).parse_args([*words.split(), *overrides])
    config = command_line.read(options)
    assert command_line.print_config_if_asked(options, config)
    text = capsys.readouterr().out
    (tmp_path / "copy.yaml").write_text(text)
    copy = read_config(tmp_path / "copy.yaml")
    first, *lines = text.splitlines()
    if not options.print_whole_config:
        config = replace(config, protocols={"symnet": config.protocols["symnet"]})
        assert len(lines) < 60 and "smooth" not in text
    assert (to_dict(copy), first) == (to_dict(config), f"# {files_of(config.source)}")
    assert [line for line in lines if not re.search(":$|  # ", line)] == []


def test_each_value_says_where_it_comes_from(tmp_path: Path, capsys) -> None:
    """A page shows also a default that the run's own file states."""

    def printed(words: str) -> str:
        options = command_line.parser(None).parse_args(words.split())
        command_line.print_config_if_asked(options, command_line.read(options))
        return capsys.readouterr().out

    mine = tmp_path / "mine.yaml"
    mine.write_text("base: config/pascal/symnet.yaml\ndata: {size: 473}\n")
    assert re.search(rf"^  size: 473 +# {mine}:2$", printed(f"--print-config {mine}"), re.MULTILINE)
    whole = printed("--print-whole-config split2 pascal --model ssp --set data.shot=5")
    places = dict(re.findall(r"^ *(\S+: \S+) +# (.*)$", whole, re.MULTILINE))
    for setting, place in {
        "name: pascal_split2_ssp_resnet50": "default",
        "image_suffix: .jpg": "default",
        "shot: 5": "--set data.shot=5",
        "fold: 2": "split2 pascal --model ssp --net resnet50",
    }.items():
        assert places[setting] == place
    file, _, number = places["refine: true"].partition(":")
    assert file == "config/pascal/ssp.yaml"
    assert Path(file).read_text().partition("refine")[0].count("\n") + 1 == int(number)
    inherited = printed("--print-config split0 pascal --net lite0")
    assert re.search(r"size: 481 +# config/pascal/photos.yaml:\d+: 473, no side of this model", inherited)


def test_the_list_names_recipes_methods_encoders_and_data_sets(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.parser(None).parse_args(["--list"])
    output = capsys.readouterr().out
    assert ended.value.code == 0 and "MODEL: abcdfss, bam, " in output and "NET: dinov2_vits14, " in output
    own = ".*pascal_split0_resnet50, .*ssp, symnet"
    assert re.search(f"^  pascal, split0 to split3: {own}", output, re.MULTILINE)
    assert re.search("^  voc, split0: none$", output, re.MULTILINE)


def test_a_working_folder_begins_configs_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the project is an installed package: what is written there changes no file of the package."""
    monkeypatch.chdir(tmp_path)
    assert config_folder() == CONFIGS
    (tmp_path / "config").mkdir()
    (tmp_path / "config/default.yaml").symlink_to("gone.yaml")  # of a package that was removed
    begin_own_configs()
    assert config_folder() == Path("config")
    before = (CONFIGS / "mini/mini.yaml").read_text()
    write_atomically(Path("config/mini/mini.yaml"), before.replace("net: resnet10", "net: lite0"))
    assert (CONFIGS / "mini/mini.yaml").read_text() == before
    assert read("split0", "mini").model.encoder_name() == "timm/tf_efficientnet_lite0"
    shutil.rmtree(tmp_path / "config")
    assert read_config("config/pascal/ssp.yaml").data.name == "pascal"  # as it is named in the project's folder


def test_a_file_in_the_working_folder_may_have_a_project_file_as_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the project is an installed package, ``train mine mini`` takes config/mini/mine.yaml there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config/mini").mkdir(parents=True)
    bases = "base: [mini.yaml, ../model/{}.yaml, ../encoder/lite0.yaml]"
    (tmp_path / "config/mini/mine.yaml").write_text(f"{bases.format('ssp')}\ndata: {{size: 97}}\n")
    content = f"{bases.format('symnet')}\ndata: {{fold: 2, size: 97}}\n"
    (tmp_path / "config/mini/mini_split2_lite0.yaml").write_text(content)
    (tmp_path / "config/mini/ssp.yaml").write_text("base: mine.yaml\n")
    assert [read("split2", "mini", method, "lite0").data.size for method in ("symnet", "ssp")] == [97, 97]
    config = read("mine", "mini")
    assert config.data.size == 97 and config.model.encoder_name() == "timm/tf_efficientnet_lite0"
    assert read_config("config/mini/mini_demo.yaml").data.size == 129  # the project's
    assert read_config(find_config("config/mini/mini_demo.yaml", "mini")).data.size == 129
