"""The digest of a method's code: of its modules and their helpers, whatever the machine; an edit changes it."""

import importlib
import sys
from pathlib import Path

import pytest

from model.code import code_of
from model.registry import methods
from util.config.imports import import_named

HELPERS = ("helper_of_mine", "parts_of_mine/rules/rule", "parts_of_mine/late")
HELPER = 'NAME = "# no comment"\n'
METHOD = """from helper_of_mine import NAME
from parts_of_mine.rules import rule

from model.ssp.ssp import SSP


class Mine(SSP):
    name = NAME + rule.NAME

    def later(self):
        from parts_of_mine import late
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "parts_of_mine/rules").mkdir(parents=True)
    for name in HELPERS:
        (tmp_path / f"{name}.py").write_text(HELPER)
    (tmp_path / "method_of_mine.py").write_text(METHOD)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if "_of_mine" in name]:
        del sys.modules[name]


def digests(folder: Path) -> dict[str, str]:
    """Return the digests of the method's code in a process that begins now."""
    forget()
    importlib.invalidate_caches()
    import_named(["method_of_mine.py"], folder, "here")
    return code_of(sys.modules["method_of_mine"].Mine)


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_method_has_its_own_modules_and_those_of_the_contract(name: str) -> None:
    cls = methods()[name]
    code = code_of(cls)
    assert {cls.__module__, "model.contract"} <= code.keys()
    settings = cls.Settings.__module__
    assert settings in code or settings.startswith("model.parts.")  # those that methods share decide as settings alone
    assert all(module.startswith("model.") for module in code)


def test_remarks_line_ends_and_the_package_do_not_change_the_codes_digest(folder: Path) -> None:
    before = digests(folder)
    assert {name.replace("/", ".") for name in HELPERS} | {"method_of_mine", "model.ssp.ssp"} <= before.keys()
    remarks = f'"""A name\n\nof mine."""  # a docstring\n\n{HELPER.strip()}  # a "comment"\n\n\n# the end'
    (folder / "helper_of_mine.py").write_bytes(remarks.replace("\n", "\r\n").encode())
    (folder / "method_of_mine.py").write_text(METHOD.replace("from model.", "from symnet.model."))
    assert digests(folder) == before


@pytest.mark.parametrize("name", HELPERS)
def test_what_ran_stays_on_record_and_an_edit_counts_once_it_is_imported(folder: Path, name: str) -> None:
    module = name.replace("/", ".")
    before = digests(folder)
    (folder / f"{name}.py").write_text(HELPER.replace("comment", "remark"))
    assert (code_of(sys.modules["method_of_mine"].Mine) == before) == (module in sys.modules)
    after = digests(folder)
    assert {each for each in before if before[each] != after[each]} == {module}
