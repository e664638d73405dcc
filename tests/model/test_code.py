"""The digest of a method's code: of its modules and their helpers, whatever the machine; an edit changes it."""

import importlib
import sys
from pathlib import Path

import pytest

from model.code import code_of
from model.registry import methods

HELPER = "FACTOR = 2\n"
METHOD = (
    "from helper_of_mine import FACTOR\n\nfrom model.ssp.ssp import SSP\n\n\nclass Mine(SSP):\n    factor = FACTOR\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "helper_of_mine.py").write_text(HELPER)
    (tmp_path / "method_of_mine.py").write_text(METHOD)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("helper_of_mine", "method_of_mine"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_method_has_its_own_modules_and_those_of_the_contract(name: str) -> None:
    cls = methods()[name]
    code = code_of(cls)
    assert {cls.__module__, "model.contract"} <= code.keys()
    settings = cls.Settings.__module__
    assert settings in code or settings.startswith("model.parts.")  # those that methods share decide as settings alone
    assert all(module.startswith("model.") for module in code)


def test_the_codes_digest_changes_with_an_edit_and_not_with_remarks_line_ends_or_the_package(folder: Path) -> None:
    cls = importlib.import_module("method_of_mine").Mine
    before = code_of(cls)
    assert {"method_of_mine", "helper_of_mine", "model.ssp.ssp"} <= before.keys()
    (folder / "helper_of_mine.py").write_bytes(HELPER.replace("\n", "\r\n").encode())
    (folder / "method_of_mine.py").write_text(METHOD.replace("from model.", "from symnet.model."))
    assert code_of(cls) == before
    remarks = '"""The factor\n\nof mine."""  # a docstring\n\nFACTOR = 2  # a "comment"\n\n\n# the end'
    (folder / "helper_of_mine.py").write_text(remarks)
    assert code_of(cls) == before
    (folder / "helper_of_mine.py").write_text('FACTOR = 2\nNAME = "# no comment"\n')
    named = code_of(cls)
    assert named != before
    (folder / "helper_of_mine.py").write_text('FACTOR = 2\nNAME = "# no remark"\n')
    assert code_of(cls) != named
    (folder / "helper_of_mine.py").write_text("FACTOR = 3\n")
    after = code_of(cls)
    assert {name for name in before if before[name] != after[name]} == {"helper_of_mine"}
