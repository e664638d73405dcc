"""Trainings of one stage within this process; the options are those of ``Asked``."""

from typing import Any

from util.config.settings import Config
from util.run.begin import Asked
from util.train.stages import train


def train_stage(stage: str, config: Config, **options: Any) -> int:
    return train(config, Asked(stage=stage, **options))


def train_meta(config: Config, **options: Any) -> int:
    return train_stage("meta", config, **options)
