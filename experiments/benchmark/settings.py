"""The configuration of every run: a preset, a size, a file and single fields, each over those before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from dreamer import config, schema
from dreamer.config import Config
from dreamer.schema import ConfigError
from experiments import presets
from experiments.names import check_known
from experiments.presets.sizes import SIZES

APART = ("task", "steps", "preset")
"""Fields that are options of the command itself."""


class Asked(Protocol):
    """Options that say how runs are configured."""

    @property
    def size(self) -> str: ...

    @property
    def config(self) -> str: ...

    @property
    def steps(self) -> int: ...

    @property
    def set(self) -> tuple[str, ...]: ...


def configuration(asked: Asked, preset: str, task: str, defaults: Mapping[str, Any]) -> Config:
    """What the options ask for, with all steps for every run: runs are compared after the same number.

    Args:
      defaults: {field: value} over preset, size and file, where `set` does not say otherwise.

    Raises:
      ConfigError: of a preset, a size, a file or a field.
    """
    check_known("preset", preset, presets.PRESETS)
    cfg = presets.build(preset)
    if asked.size:
        check_known("size", asked.size, SIZES)
        cfg = dataclasses.replace(cfg, agent=SIZES[asked.size](cfg.agent))
    if asked.config:
        cfg = config.load_toml(asked.config, cfg)
    changes: dict[str, Any] = {"until": "", **defaults, **dict(map(field, asked.set))}
    return schema.replace_paths(cfg, changes | {"task": task, "steps": asked.steps or cfg.steps})


def field(entry: str) -> tuple[str, Any]:
    """A field of the configuration from text as loop.train_ratio=32.

    Raises:
      ConfigError: it is written otherwise, or an option of the command sets that field.
    """
    path, equals, text = entry.partition("=")
    path = path.replace("-", "_")
    fields = schema.paths(Config)
    if not equals:
        raise ConfigError(f"set needs entries like loop.train_ratio=32, but one is '{entry}'")
    if path in APART or path.startswith("population."):
        raise ConfigError(f"set: {path} is an option of its own, or none of several runs; leave it out")
    return path, schema.parse_text(fields[path].type, text) if path in fields else text
