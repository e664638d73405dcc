"""The names of modules and commands as they are in the package ``symnet``, and modules of a clone by these names."""

import re
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType

FOLDERS = ("annotations", "datasets", "model", "photos", "util")
COMMANDS = ("train", "test", "report", "prepare", "predict")  # reproduce.sh and demo.sh are of the clone alone

_folder = "(?:{})".format("|".join(FOLDERS))
_command = r"({}|\{{script\}})".format("|".join(COMMANDS))
_IMPORT_OF_FOLDER = re.compile(rf"^(\s*)import ({_folder})$", re.MULTILINE)
_IMPORT = re.compile(rf"^(\s*(?:from|import) )({_folder}(?:\.\w+)* (?:import|as) )", re.MULTILINE)
_TYPED = re.compile(rf"(?:\b(?:python3?|sh) )?(?<![\w/.-]){_command}\.(?:py|sh)\b")
_PAGE = re.compile(r"(?<=[ (])(?:docs/\w+|initmodel/README|README)\.md\b")  # of the clone alone


def with_imports(text: str) -> str:
    """Return the text of a module whose imports name the folders inside the package."""
    text = _IMPORT_OF_FOLDER.sub(r"\1from symnet import \2", text)
    return _IMPORT.sub(r"\1symnet.\2", text)


def with_commands(text: str) -> str:
    """Return a text as it is for users of the package.

    It says ``symnet train`` for ``sh train.sh`` and ``train.py``, and where pages are.
    """
    text = _TYPED.sub(lambda found: f"symnet {found[1]}", text)
    return _PAGE.sub(r"\g<0> in the repository", text)


class Finder(MetaPathFinder):
    """Finds modules of the package ``symnet``."""

    def find_spec(self, name: str, path=None, target=None) -> "ModuleSpec | None":  # noqa: ANN001
        """Return where a module is, with the loader that renames its imports; None if it is of another package."""
        spec = PathFinder.find_spec(name, path) if name.startswith("symnet.") else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Loads a module whose imports name the folders; it neither reads nor writes the bytecode of the clone's own."""

    def get_code(self, fullname: str) -> CodeType:
        text = self.get_source(fullname)
        assert text is not None
        return self.source_to_code(with_imports(text), self.path)
