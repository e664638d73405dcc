"""A result as a row: its name, and what tables, comparisons and the frame of results derive from it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.decides import Decides
from util.config.same import deciding
from util.evaluate.schema import Result
from util.evaluate.titles import departures
from util.report.shared_facts import text_of, without
from util.run.run import TRAINING_FREE

FOLD_SETTINGS = ("list_file", "fold")  # settings that may differ between folds of a mean


@dataclass(frozen=True)
class Row:
    """A result and what is derived from it."""

    file: Path
    result: Result

    @property
    def name(self) -> str:
        """Its name in tables: method, encoder, other words of the run's name, weights unless the best."""
        method = f"{self.result['method']} {self.result['encoder']}".strip()
        name = ", ".join(filter(None, [method, _further_words(self.result)]))
        weights = _weights_text(self.result)
        return f"{name} ({weights})" if weights else name

    @property
    def place(self) -> str:
        """Its column: the fold, or the data set without folds."""
        return self.result["dataset"] if self.result["folds"] == 1 else f"fold {self.result['fold']}"

    @property
    def mark(self) -> str:
        """Its difference to the protocol's number by the run's best weights, in words; '' for that number."""
        mark = self.result["weights_mark"]
        if mark == "foreign":  # of which there may be many
            mark += f" {self.result['checkpoint']}"
        return "; ".join(filter(None, [mark, *departures(self.result)]))

    @property
    def training_seed(self) -> int | None:
        """The seed of the training of its weights; None without one."""
        training = self.result["training"]
        return training[-1].get("seed") if training else None

    @property
    def settings(self) -> str:
        """How it was trained and tested, but for precision, fold, seeds and the start of the encoder, as a text."""
        result = self.result
        test_data = result["config"]["data"] if result["folds"] > 1 else {}  # without folds each has a list of its own
        return text_of(
            {
                "size": result["size"],
                "text": result["text"],
                "input": result["input"],
                "stages": [
                    (each["batch"], each["size"], without(each["settings"], *FOLD_SETTINGS))
                    for each in result["training"]
                ],
                "training lists": _list_settings(result["trained_with"] or {}),
                "test lists": _list_settings(test_data),
                "model": deciding(result["config"], Decides.WEIGHTS)["model"],
                "fixed weights": result["weights"] if result["checkpoint"] == TRAINING_FREE else "",
            }
        )

    @property
    def parameters(self) -> str:
        """The number of parameters in millions, and of those learnt."""
        return f"{_millions(self.result['parameters'])} ({_millions(self.result['learnt_parameters'])})"

    @property
    def seconds(self) -> float:
        """The time of an episode, summed over processes."""
        result = self.result
        return 60 * result["minutes"] * result["processes"] / (result["episodes"] * len(result["seeds"]))


def _further_words(result: Result) -> str:
    """Return the words of a run's name that are not its data set, method, encoder, fold or seed."""
    backbone = str(result["backbone"])
    forms = backbone, backbone.replace("/", "-"), backbone.replace("/", "--")  # in names of runs
    known = re.split("[_/]", "_".join((result["dataset"], result["model"], *forms)))
    words = [word for word in result["run"].split("_") if word not in known]
    return " ".join(word for word in words if not re.fullmatch(r"(split|seed)\d+", word))


def _weights_text(result: Result) -> str:
    """Return the name of a result's weights; '' for the run's best, and for those of ``test.trained_on``."""
    if result["weights_mark"] != "foreign":
        return result["weights_mark"]
    if result["config"]["test"].get("trained_on") not in (None, result["dataset"]):
        return ""
    place = "/".join(Path(result["checkpoint"]).parts[-3:])
    return re.sub(r"split\d+", "split", place)  # folds share a row


def _millions(count: int) -> str:
    """Return a number in millions: tenths, or two digits of a small one."""
    return f"{count / 1e6:.2g}" if count < 1e5 else f"{count / 1e6:.1f}"


def _list_settings(data: dict[str, Any]) -> dict[str, Any]:
    """Return data settings that decide lists, without what names the fold."""
    fold = rf"(?<!\d){data.get('fold')}(?!\d)"
    deciding_lists = deciding({"data": data}, Decides.SCORES)["data"]
    settings = without(deciding_lists, *FOLD_SETTINGS, "root", "shot", "model", "precision")
    return {key: re.sub(fold, "{fold}", value) if isinstance(value, str) else value for key, value in settings.items()}
