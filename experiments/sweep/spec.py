"""The file of a sweep, fully checked before anything starts.

    [sweep]
    preset = "quickstart"
    trials = 24
    seeds = 3
    [fixed]
    "loop.train_ratio" = 64
    [space]
    "agent.optim.lr" = {log = [1e-4, 1e-2]}
    "agent.rssm.deter" = {choice = [128, 256]}
    "agent.behavior.imag_length" = {int = [5, 20]}

Fields are named by dotted path, as on the command line.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import envs
from dreamer import schema
from dreamer.config import TRACED, Config, Count, LoopConfig, Natural, Scale
from dreamer.schema import ConfigError, Section
from experiments import presets
from experiments.names import check_known
from experiments.presets.sizes import SIZES
from experiments.sweep import space as spaces
from experiments.sweep.space import Dimension

TABLES = ("sweep", "fixed", "space", "enqueue")
MAY_CHANGE = ("trials", "hours", "concurrency", "population")
"""Fields of a sweep that may change when it is resumed."""
RUNGS = 9
"""Default number of evaluations at which a pruner judges a trial."""
ACTOR = "loop.actor"
"""The field that names what acts while a trial trains."""
ENOUGH_CHECKED = 1000
"""Points known in advance that are checked as configurations before the sweep starts."""


@dataclass(frozen=True)
class SweepConfig(Section):
    """What is searched, by which score, and for how many trials."""

    preset: str = "quickstart"
    """The base configuration."""
    size: str = ""
    """Size of the agent, over that of the preset."""
    task: tuple[str, ...] = ()
    """What to learn, instead of the preset's; of several tasks the mean score counts."""
    steps: Natural = 0
    """Environment steps of every run; 0 as the preset says."""
    metric: Literal["auto", "success_rate", "return_mean", "return_iqm", "length_mean"] = "auto"
    """The score, of the evaluation at the end; auto is success where the task reports it, else the return."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Whether a higher score is better."""
    trials: Natural = 0
    """Trials that end, whether finished, pruned or failed; a grid has all of its points by default."""
    seeds: Count = 1
    """Runs of every trial, which differ in their seed; the score is their mean."""
    hours: Scale = 0.0
    """No new trial starts once all of them together have taken this long; 0 is no limit."""
    sampler: Literal["tpe", "cmaes", "random", "grid", "qmc"] = "tpe"
    """The sampler: it learns from earlier trials (tpe, cmaes) or does not (random, grid, qmc)."""
    pruner: Literal["none", "halving", "hyperband", "exploit"] = "none"
    """Whether trials that fall behind end early, judged at evaluations during the first run of each; with
    exploit they continue from a copy of a leading one, with varied values (population-based training)."""
    concurrency: Count = 1
    """Trials at the same time, where the launcher can."""
    population: Natural = 0
    """Runs that a worker trains in one program, On a JAX environment; 1 gives each a separate process,
    0 is the seeds of one trial on a CPU and 16 elsewhere."""
    seed: Natural = 0
    """Seed of the sampler."""


@dataclass(frozen=True)
class Spec:
    """A valid sweep."""

    sweep: SweepConfig
    fixed: Mapping[str, Any]
    space: Mapping[str, Dimension]
    enqueue: tuple[Mapping[str, Any], ...]
    base: Config
    """The configuration of every trial before its own values are put in; its task is the first one."""

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.sweep.task or (self.base.task,)

    @property
    def maximizes(self) -> bool:
        return self.sweep.direction == "maximize"

    def config(self, params: Mapping[str, Any]) -> Config:
        """The configuration of a trial.

        Raises:
          ConfigError: its values exclude each other.
        """
        return schema.replace_paths(self.base, params)

    def point(self, number: int) -> dict[str, Any] | None:
        """The values of a trial that are known in advance; None where all are open."""
        if number < len(self.enqueue):
            return {**(self._drawn(number) or {}), **self.enqueue[number]}
        return self._drawn(number - len(self.enqueue))

    def _drawn(self, number: int) -> dict[str, Any] | None:
        match self.sweep.sampler:
            case "grid":
                return spaces.grid_point(self.space, number)
            case "random":
                return spaces.random_point(self.space, self.sweep.seed, number)
            case "qmc":
                return spaces.even_point(self.space, self.sweep.seed, number)
        return None


def load(path: Path) -> Spec:
    """Read the file of a sweep.

    Raises:
      ConfigError: naming the file and what is wrong with it.
    """
    content = schema.read_toml(path)
    try:
        return read(content)
    except (ConfigError, envs.UnknownTask) as error:
        raise ConfigError(f"{path}: {error}") from None


def read(content: Mapping[str, Any]) -> Spec:
    """A sweep from the tables of its file.

    Raises:
      ConfigError: for an unknown field (with close ones) or an invalid value.
    """
    for name in content:
        if name not in TABLES:
            close = " or ".join(f"[{other}]" for other in schema.closest(name, TABLES))
            hint = f"did you mean {close}?" if close else f"there are {', '.join(f'[{t}]' for t in TABLES)}"
            raise ConfigError(f"there is no table [{name}]; {hint}")
    table = dict(_table(content, "sweep"))
    queue = table.pop("enqueue", None) or content.get("enqueue", [])
    if isinstance(table.get("task"), str):
        table["task"] = [table["task"]]
    sweep = schema.build(SweepConfig, table, path="sweep")
    fixed = _flat(_table(content, "fixed"))
    searched = _flat(_table(content, "space"), deep=False)
    if not searched:
        raise ConfigError('space is empty; name what to search, as "agent.optim.lr" = {log = [1e-4, 1e-2]}')
    base = _base(sweep, fixed)
    space = {path: _dimension(path, value, base) for path, value in searched.items()}
    both = next((path for path in space if path in fixed), None)
    if both:
        raise ConfigError(f"{both} is in [fixed] and in [space]; it can only be one of them")
    sweep = dataclasses.replace(
        sweep, task=tuple(map(envs.canonical, sweep.task)), trials=_trials(sweep, space, queue)
    )
    spec = Spec(sweep, fixed, space, _queue(queue, space), base)
    if sweep.pruner == "exploit":
        _check_exploits(spec)
    _check_points(spec)
    _check_actors(spec)
    return spec


def check_same(old: Spec, new: Spec, folder: Path) -> None:
    """Raise a ConfigError unless one sweep resumes the other: only the fields in `MAY_CHANGE` may differ."""
    changed = [path for path, _, _ in schema.diff(old.sweep, new.sweep) if path not in MAY_CHANGE]
    changed += [name for name in ("fixed", "space", "enqueue") if getattr(old, name) != getattr(new, name)]
    if changed:
        raise ConfigError(
            f"{folder} holds another sweep, which differs in {', '.join(changed)}: choose another --out "
            f"(only {', '.join(MAY_CHANGE)} may change)"
        )


def _table(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = content.get(name, {})
    if not isinstance(table, Mapping):
        raise ConfigError(f"{name} must be a table, as [{name}], but it is {table!r}")
    return table


def _flat(table: Mapping[str, Any], *, deep: bool = True, path: str = "") -> dict[str, Any]:
    """{dotted path: value}: TOML makes tables of paths that are written without quotation marks.

    Args:
      deep: whether every table is part of a path; else one that names a kind of dimension is a value.
    """
    flat: dict[str, Any] = {}
    for name, value in table.items():
        dotted = f"{path}.{name}" if path else name
        section = isinstance(value, Mapping) and (deep or not set(value) & set(spaces.KINDS))
        is_part = section and any(p.startswith(f"{dotted}.") for p in schema.paths(Config))
        flat |= _flat(value, deep=deep, path=dotted) if is_part else {dotted: value}
    return flat


def _base(sweep: SweepConfig, fixed: Mapping[str, Any]) -> Config:
    """The preset with what is fixed."""
    check_known("preset", sweep.preset, presets.PRESETS)
    base = presets.build(sweep.preset)
    if sweep.size:
        check_known("size", sweep.size, SIZES)
        base = dataclasses.replace(base, agent=SIZES[sweep.size](base.agent))
    for path in fixed:
        if path in ("task", "steps", "preset") or path.startswith("population."):
            field = "seeds" if path.startswith("population.") else path
            raise ConfigError(f"fixed.{path}: {field} belongs in the table [sweep]")
    # Trials are compared after the same number of steps, unless the file sets `until`.
    base = schema.replace_paths(base, {"report.episodes": 0, "until": "", **fixed})
    tasks = [envs.canonical(task) for task in sweep.task or (base.task,)]
    double = next((task for task in tasks if tasks.count(task) > 1), None)
    if double:
        raise ConfigError(f"sweep.task has {double} twice; once is enough")
    base = schema.replace_paths(base, {"task": tasks[0], "steps": sweep.steps or base.steps})
    if not base.eval.episodes:
        raise ConfigError("fixed.eval.episodes must be above 0: a trial is judged by its evaluation")
    if sweep.pruner != "none" and not base.eval.every:
        base = schema.replace_paths(base, {"eval.every": -(-base.steps // RUNGS)})
    return base


FORBIDDEN = ("task", "steps", "seed", "preset", "population.", "eval.", "report.", "log.", "checkpoint.")
"""Fields that cannot be searched: they decide how trials are compared, or do not concern the agent."""


def _dimension(path: str, table: Any, base: Config) -> Dimension:
    if not isinstance(table, Mapping):
        raise ConfigError(
            f"space.{path} must be a table, as {{choice = [{table!r}]}}; one value for all belongs in [fixed]"
        )
    if path.startswith(FORBIDDEN) and path in schema.paths(Config):
        raise ConfigError(
            f"space.{path} cannot be searched: it is the same for all trials, see [sweep] and [fixed]"
        )
    try:
        schema.replace_path(base, path, dict(schema.values(base)).get(path))
    except ConfigError as error:  # an unknown path
        raise ConfigError(f"space.{error}") from None
    dimension = spaces.dimension(path, table)
    if dimension.kind in ("log", "uniform") and isinstance(dict(schema.values(base))[path], int):
        raise ConfigError(
            f"space.{path} is a whole number: search it with int or choice, not with {dimension.kind}"
        )
    for value in dimension.ends:
        try:
            schema.replace_path(base, path, value)
        except ConfigError as error:
            if len(dimension.ends) == 1 or _alone(path, value):
                raise ConfigError(f"space.{error}") from None
    return dimension


def _alone(path: str, value: Any) -> bool:
    """Whether a value is invalid for a field regardless of the others."""
    kind = schema.paths(Config)[path].type
    *_, section = path.split(".")
    holder = dataclasses.make_dataclass("Field", [(section, kind)], bases=(Section,), frozen=True)
    try:
        schema.build(holder, {section: value})
    except ConfigError:
        return True
    return False


def _trials(sweep: SweepConfig, space: Mapping[str, Dimension], queue: Any) -> int:
    if sweep.sampler != "grid":
        if not sweep.trials:
            raise ConfigError("sweep.trials is missing: how many configurations to try")
        return sweep.trials
    points = spaces.size(space)
    if points is None:
        path = next(path for path, d in space.items() if d.count is None)
        raise ConfigError(f"a grid needs values that can be counted: make space.{path} a choice")
    points += len(queue)
    if sweep.trials > points:
        raise ConfigError(f"sweep.trials is {sweep.trials}, but this grid has only {points} points")
    return sweep.trials or points


def _queue(queue: Any, space: Mapping[str, Dimension]) -> tuple[dict[str, Any], ...]:
    """Configurations that come first, each with some or all of what is searched."""
    if not isinstance(queue, list) or not all(isinstance(entry, Mapping) for entry in queue):
        raise ConfigError('enqueue must be a list of tables, as [{"agent.optim.lr" = 1e-3}]')
    entries = []
    for entry in map(_flat, queue):
        for path, value in entry.items():
            if path not in space:
                close = " or ".join(schema.closest(path, space)) or ", ".join(space)
                raise ConfigError(f"enqueue names {path}, which is not in [space]; did you mean {close}?")
            if not space[path].holds(value):
                raise ConfigError(f"enqueue: {path} must be {space[path]}, but it is {value!r}")
        entries.append(entry)
    return tuple(entries)


def _check_exploits(spec: Spec) -> None:
    """Raise a ConfigError unless a run can continue from a copy of another one, whatever their values."""
    host = next((task for task in spec.tasks if not envs.is_on_device(task)), None)
    if host is not None or spec.sweep.population == 1:
        why = f"but {host} runs on the host" if host else "but sweep.population is 1"
        raise ConfigError(f"sweep.pruner: exploit is for runs in one program, {why}")
    if len(spec.tasks) > 1 or spec.sweep.seeds > 1:
        raise ConfigError("sweep.pruner: exploit copies single runs; give it one task and seeds = 1")
    numbers = [f"agent.{path}" for path in TRACED.values()]
    fixed = next((path for path in spec.space if path not in numbers), None)
    if fixed is not None:
        raise ConfigError(
            f"sweep.pruner: exploit cannot vary {fixed} during a run, only numbers as agent.optim.lr"
        )


def _check_actors(spec: Spec) -> None:
    """Check whatever acts while trials train; raises ConfigError."""
    searched = spec.space.get(ACTOR)
    named = [spec.base.loop.actor, *(searched.choices if searched else ())]
    named += [point[ACTOR] for point in spec.enqueue if ACTOR in point]
    if planned := {str(name) for name in named} - {LoopConfig.actor}:
        from dreamer import actors  # which takes JAX, and seconds

        for name in sorted(planned):
            actors.named(name)


def _check_points(spec: Spec) -> None:
    """Check every configuration that is known in advance."""
    for number in range(min(spec.sweep.trials, ENOUGH_CHECKED)):
        point = spec.point(number)
        if point is None:
            return
        try:
            spec.config(point)
        except ConfigError as error:
            raise ConfigError(f"trial {number} is invalid: {error}") from None
