"""What follows `dreamer`: each command, its options, and what it calls.

Commands import what they need when they run: help never imports JAX.
"""

import dataclasses
import difflib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from dreamer import config, schema
from dreamer.config import Config, Count, EnvConfig, LoopConfig, Natural, Positive, ReplayConfig, Seed
from dreamer.schema import ConfigError, Range, Section
from experiments import presets
from experiments.benchmark.options import (
    BenchmarkOptions,
    BenchmarkReportOptions,
    BenchmarkWorkerOptions,
)
from experiments.compare.options import CompareOptions
from experiments.costs.options import CostOptions
from experiments.imagine.options import ImagineOptions
from experiments.names import check_known
from experiments.objectives.options import ObjectivesOptions, ObjectivesWorkerOptions
from experiments.plans.options import PlanReportOptions
from experiments.presets.sizes import SIZES
from experiments.sweep.options import SweepOptions, SweepReportOptions, WorkerOptions
from experiments.training import warm_start

Port = Annotated[int, Range(0, 2**16, below=True)]


@dataclass(frozen=True)
class TrainOptions(Section):
    """In addition to every field of the configuration."""

    run: str = ""
    """Folder of the run; one that holds a run is resumed (default: runs/<preset or task>-seed<seed>)."""
    size: str = ""
    """Size of the agent, over that of the preset."""
    config: str = ""
    """TOML file with any fields of the configuration, over preset and size."""
    seeds: Natural = 0
    """Train this many agents in one program, which differ in their seed (JAX environments)."""
    population: tuple[str, ...] = ()
    """Train an agent for every combination of these numbers, as in lr=1e-4,3e-4 seeds=4."""
    force: tuple[str, ...] = ()
    """Fields in which a resumed run may differ from what it was."""
    trust: bool = False
    """Run code that lies in the folder of a run or a sweep, where its files ask for it."""
    fresh: bool = False
    """Start from scratch where the folder holds a run, which is kept beside it as RUN.before-TIME."""
    without_replay: bool = False
    """Resume the learner alone where the replay files are damaged; the replay is refilled from scratch."""
    json: bool = False
    """Print one JSON object at the end, and nothing else on standard output."""


@dataclass(frozen=True)
class LaunchOptions(Section):
    """Where the processes of one run are started; the command follows after --."""

    processes: Annotated[int, Range(2)] = 2
    """How many, which share environments, replay and batches equally."""
    launcher: Literal["here", "submitit", "ray"] = "here"
    """On this machine, as tasks of a job of SLURM (of submitit's local executor where there is none), or in a
    Ray cluster."""
    slurm: tuple[str, ...] = ()
    """Parameters of the job, with submitit, as nodes=2 timeout_min=240 gpus_per_node=4."""


@dataclass(frozen=True)
class EvalOptions(CostOptions):
    """How the agent of a run is evaluated."""

    episodes: Count = 100
    """Episodes to play."""
    seed: Seed = 0
    """Seed of the first episode; the others follow it."""
    actor: str = ""
    """How actions are chosen: greedy takes the most likely one (the default), sampled draws as in training,
    random draws uniformly; mppi, cem, icem (continuous actions), categorical_cem (discrete ones) and gumbel
    (any) plan in the world model. Options of planners: --actor.horizon 3, or --actor mppi:horizon=3."""
    sampled: bool = False
    """Deprecated form of --actor sampled."""
    task: str = ""
    """Play another task with the same observations and actions, such as the original of a port."""
    num_envs: Natural = 0
    """Copies of the environment, stepped together; 0 means 16 on the host and 256 on the device."""
    max_steps: Natural = 0
    """Episodes are cut after this many steps; 0 uses the setting of the run (eval.max_steps)."""
    out: str = ""
    """File that gets a line of JSON for every episode; empty for none."""
    trust: bool = False
    """Run code that lies in the folder of a run or a sweep, where its files ask for it."""
    json: bool = False
    """Print one JSON object, and nothing else on standard output."""

    def __post_init__(self) -> None:
        super().__post_init__()
        config.check_seeds(self.seed, self.episodes)
        if self.sampled and self.actor not in ("", "sampled"):
            raise ConfigError(f"--sampled and --actor {self.actor} contradict each other: give --actor alone")


@dataclass(frozen=True)
class ExportOptions(Section):
    """How a trained agent becomes one file."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the stored parameters; 16 bits halve the file size at reduced precision."""
    hub_card: bool = False
    """Also write README.md beside the file, a model card as the Hugging Face Hub shows it."""
    license: str = ""
    """Licence of the parameters that the card names, as mit; empty names none."""
    force: bool = False
    """Overwrite an existing file."""
    trust: bool = False
    """Run code that lies in the folder of a run or a sweep, where its files ask for it."""
    json: bool = False
    """Print one JSON object, and nothing else on standard output."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.license and not self.hub_card:
            raise ConfigError("--license is named in a model card: add --hub-card")
        if not re.fullmatch(r"[a-z0-9.-]*", self.license):
            raise ConfigError(
                f"--license must be an identifier as mit or apache-2.0, but it is '{self.license}'"
            )


@dataclass(frozen=True)
class ReportOptions(Section):
    """What a page shows: one run, or several (and the members of a population) side by side."""

    out: str = ""
    """File of the page (default: report.html in the folder of the run, or here for several)."""
    episodes: Natural = 0
    """Episodes to play and analyse; 0 uses the setting of the run."""
    watch: bool = False
    """Serve the page on this machine and update it whenever the run saves."""
    port: Port = 8420
    """Where the page is served, with --watch."""
    trust: bool = False
    """Run code that lies in the folder of a run or a sweep, where its files ask for it."""
    json: bool = False
    """Print one JSON object, and nothing else on standard output."""


@dataclass(frozen=True)
class PlayOptions(CostOptions):
    """A page on this machine where a person plays in the dreams of an agent."""

    seed: Seed = 0
    """Seed of the first episode."""
    actor: str = "greedy"
    """How the agent's actions are chosen, as in dreamer eval: greedy, sampled, random, or a planner, which
    plans with the costs that are switched on. Options: --actor.horizon 3, or --actor mppi:horizon=3."""
    port: Port = 8421
    """Where the page is served; 0 takes any free port."""
    trust: bool = False
    """Run code that lies in the folder of a run or a sweep, where its files ask for it."""


@dataclass(frozen=True)
class BoardOptions(Section):
    """A page on this machine over everything that lies below a folder (default: the current one)."""

    port: Port = 8423
    """Where the page is served; 0 takes any free port."""
    open: bool = True
    """Open the page in a browser, where there is a screen; its address is printed either way."""
    json: bool = False
    """Print the table as one JSON object and end."""


@dataclass(frozen=True)
class LlmOptions(Section):
    """A language model on this machine."""

    port: Port = 8422
    """Where it is served; 0 takes any free port."""
    threads: Count = 1
    """Threads that compute; more than there are free cores is many times slower."""
    parallel: Count = 1
    """Requests answered at the same time; with one, a greedy reply depends on its request alone."""
    context: Count = 8192
    """Most tokens of prompt and reply together."""


@dataclass(frozen=True)
class BenchOptions(Section):
    """What is measured, on synthetic batches."""

    sizes: tuple[str, ...] = ("1m",)
    """Sizes of the agent."""
    obs: tuple[Literal["vector", "image"], ...] = ("vector", "image")
    """Kinds of observation, of updates alone: the loops play DoorKey from the symbolic view."""
    batch: Count = 16
    """Sequences in a batch."""
    length: Annotated[int, Range(2)] = 64
    """Steps of each."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of activations; auto is float32 on a CPU and bfloat16 elsewhere."""
    loop: bool = False
    """Measure acting, replay and learning together instead, in the host loop and in the fused one."""
    members: tuple[Count, ...] = (1, 4, 16, 64)
    """With --loop: sizes of the populations in the fused loop."""
    slow: Annotated[float, Range(0)] = 0.0
    """Milliseconds of an environment step: measure what share of the possible the host loop reaches then."""
    num_envs: Count = 4
    """With --slow: environments, each in a process."""
    ratios: tuple[Positive, ...] = (32.0, 128.0, 512.0)
    """With --slow: train ratios, in replayed steps per environment step."""
    task: str = ""
    """Measure this task alone instead, with random actions."""
    copies: tuple[Count, ...] = (1, 16, 1024)
    """With --task: numbers of copies that are stepped together."""
    env: EnvConfig = EnvConfig()
    """With --task: how it is made."""
    profile: bool = False
    """Show instead where the time of an update goes, by part."""
    against: str = ""
    """A Python with what danijar/dreamerv3 needs: time an update of ours and one of it in turns instead."""
    reference: str = "dreamerv3"
    """With --against: the folder of that repository."""
    pairs: Annotated[int, Range(2)] = 9
    """With --against: updates of each side that count."""
    trust: bool = False
    """Run code that lies in the folder of a run or a sweep, where its files ask for it."""
    json: bool = False
    """Print one JSON object, and nothing else on standard output."""


@dataclass(frozen=True)
class EnvsOptions(Section):
    """Which environments there are, or whether one fulfils its contract."""

    check: str = ""
    """Play this task, as suite:name, and list which parts of its contract hold; exit code 1 if any fails."""
    env: EnvConfig = EnvConfig()
    """How it is made."""
    trust: bool = False
    """Run code that lies in the folder of a run or a sweep, where its files ask for it."""
    json: bool = False
    """Print one JSON object, and nothing else on standard output."""


@dataclass(frozen=True)
class DoctorOptions(Section):
    """What is installed, and what would run where; or why a run does not learn."""

    run: str = ""
    """Say instead why the run in this folder does not learn, and which field to change."""
    task: str = ""
    """Also say how training on this task would run."""
    size: str = ""
    """Also say how much memory an agent of this size needs on each device (without --task: for images)."""
    memory: Annotated[float, Range(0)] = 0.0
    """GiB of a device, to refuse what cannot fit; 0: that of the devices here."""
    env: EnvConfig = EnvConfig()
    """How it is made."""
    loop: LoopConfig = LoopConfig()
    """The batch, and the devices as a mesh, as --loop.mesh data=4,fsdp=2."""
    replay: ReplayConfig = ReplayConfig()
    """The replay buffer."""
    trust: bool = False
    """Run code that lies in the folder of a run or a sweep, where its files ask for it."""
    json: bool = False
    """Print one JSON object, and nothing else on standard output."""


def train(words: Sequence[str], options: TrainOptions, changes: Mapping[str, Any]) -> int:
    plan = resolve(words[0] if words else "", options, changes)
    if plan.resumes and not options.run and not options.fresh:
        print(f"{plan.folder} holds a run: resuming it (--run names another folder)", file=sys.stderr)
    if plan.cfg.preset == "small" and not (words or plan.resumes):
        _name_preset_of_suite(plan.cfg.task)
    from experiments import cluster
    from experiments.training import run

    cluster.join(cluster.place(os.environ), plan.folder, plan.cfg)
    return run.train(
        plan.cfg,
        plan.folder,
        json=options.json,
        force=options.force,
        fresh=options.fresh,
        without_replay=options.without_replay,
    )


def launch(words: Sequence[str], options: LaunchOptions, changes: Mapping[str, Any]) -> int:
    if options.launcher == "submitit":
        from experiments import job

        return job.submit(words, options.processes, options.slurm)
    if options.slurm:
        raise ConfigError("slurm is for --launcher submitit")
    if options.launcher == "ray":
        from experiments import remote

        return remote.submit(words, options.processes)
    from experiments import launch

    return launch.launch(words, options.processes)


def _name_preset_of_suite(task: str) -> None:
    """Say which preset a task's suite has, where none was named."""
    from experiments.benchmark import suites

    if (name := suites.preset(task.partition(":")[0], ())) != suites.WITHOUT:
        print(
            f"settings for small tasks; those of the suite: dreamer train {name} --task {task}",
            file=sys.stderr,
        )


def evaluate(words: Sequence[str], options: EvalOptions, changes: Mapping[str, Any]) -> int:
    from experiments import evaluate

    if options.sampled:
        print("--sampled is now --actor sampled", file=sys.stderr)
    return evaluate.evaluate(
        Path(words[0]),
        episodes=options.episodes,
        seed=options.seed,
        actor=options.actor or ("sampled" if options.sampled else "greedy"),
        task=options.task,
        num_envs=options.num_envs,
        max_steps=options.max_steps,
        out=options.out,
        json=options.json,
        wanted=options,
    )


def imagine(words: Sequence[str], options: ImagineOptions, changes: Mapping[str, Any]) -> int:
    from experiments.imagine.imagine import imagine

    return imagine(Path(words[0]), options)


def export(words: Sequence[str], options: ExportOptions, changes: Mapping[str, Any]) -> int:
    from experiments import export

    run, *named = map(Path, words)
    file = named[0] if named else None
    o = options
    return export.export(
        run, file, dtype=o.dtype, force=o.force, json=o.json, hub_card=o.hub_card, license=o.license
    )


def report(words: Sequence[str], options: ReportOptions, changes: Mapping[str, Any]) -> int:
    from experiments.report.report import report

    over = {"episodes": options.episodes} if options.episodes else {}
    folders = [Path(word) for word in words]
    o = options
    return report(folders, out=o.out, changes=over, follow=o.watch, port=o.port, json=o.json)


def play(words: Sequence[str], options: PlayOptions, changes: Mapping[str, Any]) -> int:
    from experiments.play.play import play

    return play(Path(words[0]), seed=options.seed, port=options.port, actor=options.actor, wanted=options)


def board(words: Sequence[str], options: BoardOptions, changes: Mapping[str, Any]) -> int:
    from experiments.board.board import board

    return board(words[0] if words else "", port=options.port, open=options.open, json=options.json)


def compare(words: Sequence[str], options: CompareOptions, changes: Mapping[str, Any]) -> int:
    from experiments.compare.compare import compare

    return compare(options)


def serve_llm(words: Sequence[str], options: LlmOptions, changes: Mapping[str, Any]) -> int:
    from experiments.llm import local

    return local.serve(*words, **dict(schema.values(options)))


def install_llm(words: Sequence[str], options: Section, changes: Mapping[str, Any]) -> int:
    from experiments.llm import local

    return local.install()


def sweep(words: Sequence[str], options: SweepOptions, changes: Mapping[str, Any]) -> int:
    from experiments.sweep import sweep

    return sweep.sweep(Path(words[0]), options)


def work_on_sweep(words: Sequence[str], options: WorkerOptions, changes: Mapping[str, Any]) -> int:
    from experiments.sweep import sweep

    return sweep.work(options)


def report_sweep(words: Sequence[str], options: SweepReportOptions, changes: Mapping[str, Any]) -> int:
    from experiments.sweep import sweep

    return sweep.report(Path(words[0]), options)


def benchmark(words: Sequence[str], options: BenchmarkOptions, changes: Mapping[str, Any]) -> int:
    from experiments.benchmark import benchmark

    return benchmark.benchmark(words[0], options)


def work_on_benchmark(
    words: Sequence[str], options: BenchmarkWorkerOptions, changes: Mapping[str, Any]
) -> int:
    from experiments.benchmark import benchmark

    return benchmark.worker(options)


def report_benchmark(
    words: Sequence[str], options: BenchmarkReportOptions, changes: Mapping[str, Any]
) -> int:
    from experiments.benchmark import benchmark

    return benchmark.show(list(map(Path, words)), options)


def objectives(words: Sequence[str], options: ObjectivesOptions, changes: Mapping[str, Any]) -> int:
    from experiments.objectives import objectives

    return objectives.compare(options)


def work_on_objectives(
    words: Sequence[str], options: ObjectivesWorkerOptions, changes: Mapping[str, Any]
) -> int:
    from experiments.objectives import objectives

    return objectives.worker(options)


def report_on_plans(words: Sequence[str], options: PlanReportOptions, changes: Mapping[str, Any]) -> int:
    from experiments.plans import plans

    return plans.report(Path(words[0]), options)


def bench(words: Sequence[str], options: BenchOptions, changes: Mapping[str, Any]) -> int:
    for size in options.sizes:
        check_known("size", size, SIZES)
    o = options
    if o.task:
        from experiments.bench import env as bench_env

        return bench_env.run(o.task, o.copies, o.env, json=o.json)
    if o.loop:
        from experiments.bench import loop as bench_loop

        return bench_loop.run(o.sizes, o.members, o.batch, o.length, dtype=o.dtype, json=o.json)
    if o.slow:
        from experiments.bench import slow

        return slow.run(o.slow, o.num_envs, o.ratios, o.sizes, o.batch, o.length, o.dtype, json=o.json)
    if o.against:
        from experiments.bench import against

        places = Path(o.against), Path(o.reference)
        return against.run(*places, o.sizes, o.obs, o.batch, o.length, o.pairs, o.dtype, json=o.json)
    if o.profile:
        from experiments.bench import profile

        return profile.run(o.sizes, o.obs, o.batch, o.length, dtype=o.dtype, json=o.json)
    from experiments.bench import bench

    return bench.run(o.sizes, o.obs, o.batch, o.length, dtype=o.dtype, json=o.json)


def show_envs(words: Sequence[str], options: EnvsOptions, changes: Mapping[str, Any]) -> int:
    from experiments import envs_command

    if options.check:
        return envs_command.check(options.check, options.env, json=options.json)
    return envs_command.show(json=options.json)


def doctor(words: Sequence[str], options: DoctorOptions, changes: Mapping[str, Any]) -> int:
    if options.run and (options.task or options.env != EnvConfig()):
        raise ConfigError("--run is about a run that there is, --task about one to come: give one of them")
    if options.run:
        from experiments.diagnosis import diagnosis

        return diagnosis.show(Path(options.run), json=options.json)
    from experiments import doctor

    if options.size:
        check_known("size", options.size, SIZES)
    placed = doctor.Placed(options.size, options.memory, options.loop, options.replay)
    is_asked = placed != doctor.Placed("", 0.0, LoopConfig(), ReplayConfig())
    return doctor.doctor(options.task, options.env, placed if is_asked else None, json=options.json)


class Plan(NamedTuple):
    """What `dreamer train` will do."""

    cfg: Config
    folder: Path
    resumes: bool
    """Whether the folder holds a run; then `cfg` is its configuration with what was asked for changed."""


def resolve(preset: str, options: TrainOptions, changes: Mapping[str, Any]) -> Plan:
    """Defaults < preset (or the configuration of the run in the folder) < size < file < flags.

    A run in the folder is resumed unless another preset is named; then the configuration is that of the
    preset, and training refuses it with a list of the differences.

    Raises:
      ConfigError: an unknown preset, size or field, or an invalid value.
    """
    preset = preset or changes.get("preset", "")
    changes = {path: value for path, value in changes.items() if path != "preset"}
    if ":" in preset:
        raise ConfigError(f"'{preset}' is a task, not a preset: --task {preset}")
    if preset:
        check_known("preset", preset, presets.PRESETS)
    base = presets.build(preset or default_preset(options, changes))
    folder = Path(options.run) if options.run else default_folder(_over(base, options, changes), base)
    stored = folder / "config.toml"
    resumes, previous = stored.is_file(), base
    if options.run and not resumes and not (preset or options.config or "task" in changes):
        raise _no_run(folder)
    if resumes:
        previous = config.load_toml(stored)
        base = previous if preset in ("", previous.preset) else base
    cfg = _over(base, options, changes)
    if resumes and not cfg.start.run:  # the start of a resumed run need not be repeated
        cfg = dataclasses.replace(cfg, start=previous.start)
    return Plan(cfg, folder, resumes)


def default_preset(options: TrainOptions, changes: Mapping[str, Any]) -> str:
    """The preset where none is named: `small` for a task that is, else `quickstart`."""
    names_task = "task" in changes or (options.config and "task" in schema.read_toml(options.config))
    return "small" if names_task else "quickstart"


def _no_run(folder: Path) -> ConfigError:
    """The error for a folder to resume that holds no run."""
    places = {place.parent for near in (folder.parent, Path("runs")) for place in near.glob("*/config.toml")}
    likeness = lambda run: difflib.SequenceMatcher(None, run.name, folder.name).ratio()
    close = max(sorted(places), key=likeness, default=None)
    hint = "" if close is None else f"did you mean {close}? "
    return ConfigError(
        f"there is no run {folder} to resume; {hint}A new one names what to learn, as in "
        f"dreamer train quickstart --run {folder}"
    )


def _population(options: TrainOptions) -> dict[str, Any]:
    """The fields that `--seeds` and `--population` set."""
    changes: dict[str, Any] = {}
    vary = tuple(word for word in options.population if not word.startswith("seeds="))
    if vary:
        changes["population.vary"] = vary
    seeds = [word.removeprefix("seeds=") for word in options.population if word not in vary]
    if seeds or options.seeds:
        changes["population.seeds"] = options.seeds or schema.parse_text(int, seeds[-1])
    return changes


def _over(base: Config, options: TrainOptions, changes: Mapping[str, Any]) -> Config:
    cfg = base
    if options.size:
        check_known("size", options.size, SIZES)
        cfg = dataclasses.replace(cfg, agent=SIZES[options.size](cfg.agent))
    if options.config:
        cfg = config.load_toml(options.config, cfg)
    return schema.replace_paths(cfg, {**_population(options), **changes, **warm_start.canonical(changes)})


def default_folder(cfg: Config, base: Config) -> Path:
    """`runs/quickstart-seed0`, or named after the task where it is not that of the preset."""
    name = base.preset if cfg.task == base.task else re.sub(r"[^\w.-]+", "-", cfg.task)
    name += "" if cfg.population.is_one else "-population"
    return Path("runs") / f"{name}-seed{cfg.seed}"


class Command(NamedTuple):
    """One word after `dreamer`."""

    about: str
    """One sentence."""
    words: str
    """Its positional arguments; optional ones are in brackets."""
    options: type[Section]
    call: Callable[[Sequence[str], Any, Mapping[str, Any]], int]
    """Words, options and (of `train`) other fields of the configuration -> exit code."""


COMMANDS = {
    "train": Command("Train an agent or resume a run.", "[PRESET]", TrainOptions, train),
    "launch": Command(
        "Train one agent with several processes: dreamer launch --processes 2 -- train ...",
        "COMMAND ...",
        LaunchOptions,
        launch,
    ),
    "eval": Command("Play episodes with the agent of a run.", "RUN", EvalOptions, evaluate),
    "imagine": Command(
        "Learn on in the dreams of a run, with costs or a goal, and write the agent to a file.",
        "RUN",
        ImagineOptions,
        imagine,
    ),
    "export": Command(
        "Write the agent of a run to a file (agent.safetensors in its folder).",
        "RUN [FILE]",
        ExportOptions,
        export,
    ),
    "report": Command(
        "Write a page about a run, or one that compares several.", "RUN ...", ReportOptions, report
    ),
    "play": Command("Play in the dreams of an agent, beside the world itself.", "RUN", PlayOptions, play),
    "board": Command(
        "Show all runs, sweeps, benchmarks and comparisons below a folder on one page.",
        "[DIR]",
        BoardOptions,
        board,
    ),
    "compare": Command(
        "Let agents, baselines and language models play the same episodes.", "", CompareOptions, compare
    ),
    "llm serve": Command("Serve a small language model on this machine.", "[MODEL]", LlmOptions, serve_llm),
    "llm install": Command("Install that model and its server.", "", Section, install_llm),
    "sweep": Command("Try many configurations, or resume a sweep.", "SPEC.toml", SweepOptions, sweep),
    "sweep worker": Command("Work on a sweep that runs elsewhere.", "", WorkerOptions, work_on_sweep),
    "sweep report": Command("Write a page about a sweep.", "SWEEP", SweepReportOptions, report_sweep),
    "benchmark": Command(
        "Train on the tasks of a suite, several seeds each, beside what was published.",
        "SUITE",
        BenchmarkOptions,
        benchmark,
    ),
    "benchmark worker": Command(
        "Work on a benchmark that runs elsewhere.", "", BenchmarkWorkerOptions, work_on_benchmark
    ),
    "benchmark report": Command(
        "Write a page about a benchmark, or one that compares several.",
        "BENCHMARK ...",
        BenchmarkReportOptions,
        report_benchmark,
    ),
    "objectives": Command(
        "Compare what objectives reach and cost with equal steps, and with equal CPU time.",
        "",
        ObjectivesOptions,
        objectives,
    ),
    "objectives worker": Command(
        "Work on such a comparison that runs elsewhere.", "", ObjectivesWorkerOptions, work_on_objectives
    ),
    "plan-report": Command(
        "Play the same episodes with several actors of a run, and say what planning brings and costs.",
        "RUN",
        PlanReportOptions,
        report_on_plans,
    ),
    "bench": Command("Measure how fast this machine learns and acts.", "", BenchOptions, bench),
    "envs": Command("List environments, or check one.", "", EnvsOptions, show_envs),
    "doctor": Command(
        "Say what is installed and would run where, or why a run does not learn.", "", DoctorOptions, doctor
    ),
}
