"""The digest of a method's code: of its modules and their helpers, whatever the machine; an edit changes it."""

import importlib
import sys
from pathlib import Path

import pytest

from model.code import code_of
from model.registry import methods

HELPERS = {  # of the method, with what imports them
    "helper_of_mine": "FACTOR = 2\n",
    "parts_of_mine/rules/rule": "SIGN = 1\n",
    "parts_of_mine/late": "",
}
METHOD = """from helper_of_mine import FACTOR
from parts_of_mine.rules import rule

from model.ssp.ssp import SSP


class Mine(SSP):
    factor = FACTOR * rule.SIGN

    def later(self):
        from parts_of_mine import late
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, text in {**HELPERS, "method_of_mine": METHOD}.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if "_of_mine" in name]:
        del sys.modules[name]


def digests() -> dict[str, str]:
    """Return the digests of the method's code in a process that begins now."""
    forget()
    importlib.invalidate_caches()
    return code_of(importlib.import_module("method_of_mine").Mine)


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_method_has_its_own_modules_and_those_of_the_contract(name: str) -> None:
    cls = methods()[name]
    code = code_of(cls)
    assert {cls.__module__, "model.contract"} <= code.keys()
    settings = cls.Settings.__module__
    assert settings in code or settings.startswith("model.parts.")  # those that methods share decide as settings alone
    assert all(module.startswith("model.") for module in code)


def test_the_codes_digest_changes_with_an_edit_and_not_with_remarks_line_ends_or_the_package(folder: Path) -> None:
    helper = folder / "helper_of_mine.py"
    before = digests()
    assert {name.replace("/", ".") for name in HELPERS} | {"method_of_mine", "model.ssp.ssp"} <= before.keys()
    helper.write_bytes(b"FACTOR = 2\r\n")
    (folder / "method_of_mine.py").write_text(METHOD.replace("from model.", "from symnet.model."))
    assert digests() == before
    helper.write_text('"""The factor\n\nof mine."""  # a docstring\n\nFACTOR = 2  # a "comment"\n\n\n# the end')
    assert digests() == before
    helper.write_text('FACTOR = 2\nNAME = "# no comment"\n')
    named = digests()
    assert named != before
    helper.write_text('FACTOR = 2\nNAME = "# no remark"\n')
    assert digests() != named


@pytest.mark.parametrize("name", HELPERS)
def test_what_ran_stays_on_record_and_an_edit_counts_once_it_is_imported(folder: Path, name: str) -> None:
    before = digests()
    cls = sys.modules["method_of_mine"].Mine
    (folder / f"{name}.py").write_text("FACTOR = SIGN = 3\n")
    is_imported = name.replace("/", ".") in sys.modules
    assert (code_of(cls) == before) == is_imported
    after = digests()
    assert {module for module in before if before[module] != after[module]} == {name.replace("/", ".")}
