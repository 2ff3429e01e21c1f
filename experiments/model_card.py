"""A model card as the Hugging Face Hub reads it: what an agent was trained on, its scores, what is unknown.

It has only what the run recorded; what was not measured it says. The front matter is YAML, whose scalars are
written as JSON, which YAML reads as the same values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import envs
from dreamer.config import Config
from envs.api import FIRST_TRAINING_SEED, Space, Spaces
from experiments import sidecar, surroundings
from experiments.learning_curve import acted_with

FILE = "README.md"
"""The name under which the Hub shows a card."""
TOOLKIT = "dreamer-toolkit"
MEMBERS = "members"
"""Folder of the members within that of a population."""
ACTORS = {"greedy": "the most likely ones", "sampled": "sampled"}
"""How actions are chosen, as the card says it."""


@dataclass(frozen=True)
class Subject:
    """The agent that a card is about."""

    name: str
    """Of the run."""
    file: str
    """Of its parameters, beside the card."""
    cfg: Config
    obs_space: Spaces
    act_space: Spaces
    counters: Mapping[str, int]
    """`env_steps` and `updates` that it has learned from."""
    parameters: int
    """How many numbers it has, as `dreamer.agent.size` counts them: without a probe decoder."""
    dtype: str
    """Of the stored parameters."""
    probe: int = 0
    """How many numbers the probe decoder has that is in the file too; 0 without one."""
    license: str = ""
    """Of the parameters; empty where none was chosen."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """The `result.json` of the run; empty if there is none."""
    session: Mapping[str, Any] = field(default_factory=dict)
    """The last entry of its `environment.json`; empty if there is none."""

    @property
    def is_of_result(self) -> bool:
        """Whether the result of the run is of the very agent that is in the file."""
        return all(self.result.get(count) == self.counters[count] for count in ("env_steps", "updates"))

    @property
    def scores(self) -> dict[str, Mapping[str, Any]]:
        """{actor: summary of its episodes}."""
        result = self.result if self.is_of_result else {}
        by_actor = {"greedy": result, "sampled": result.get("sampled") or {}}
        return {actor: scores for actor, scores in by_actor.items() if _is_whole(scores)}


def _is_whole(scores: Mapping[str, Any]) -> bool:
    """Whether a summary has what the card says of it."""
    needed = ("episodes", "seed", "return_mean", "return_interval", "length_mean")
    return isinstance(scores, Mapping) and all(scores.get(name) is not None for name in needed)


def recorded(home: Path) -> dict[str, Any]:
    """What the folder of a run, or of a member, says of it: fields of a `Subject`."""
    is_member = home.parent.name == MEMBERS
    sessions = surroundings.sessions(home.parents[1] if is_member else home)
    return {
        "name": f"{home.parents[1].name}-{home.name}" if is_member else home.name,
        "result": finite(sidecar.read(home / "result.json")),
        "session": sessions[-1] if sessions else {},
    }


def is_card(text: str) -> bool:
    """Whether a text is a card that this module wrote."""
    return text.startswith(f'---\nlibrary_name: "{TOOLKIT}"\n')


def card(subject: Subject) -> str:
    """The whole card: front matter and text."""
    parts = [_title(subject), _training(subject), _scores(subject), _limits(subject), _use(subject)]
    front = "\n".join(_yaml(front_matter(subject)))
    return f"---\n{front}\n---\n\n" + "\n\n".join(parts) + "\n"


def front_matter(subject: Subject) -> dict[str, Any]:
    """What the Hub searches and shows beside the card."""
    chosen = {"license": subject.license} if subject.license else {}
    index = [{"name": subject.name, "results": _results(subject)}] if subject.scores else []
    return {
        "library_name": TOOLKIT,
        **chosen,
        "pipeline_tag": "reinforcement-learning",
        "tags": ["reinforcement-learning", "dreamerv3", "world-model", "jax", subject.cfg.task],
        **({"model-index": index} if index else {}),
    }


def _results(subject: Subject) -> list[dict[str, Any]]:
    """Every score as the Hub's index of models has it."""
    metrics = []
    for actor, scores in subject.scores.items():
        of = f"{scores['episodes']} episodes, {actor} actions"
        metrics.append({"type": "mean_reward", "name": f"mean return ({of})", "value": scores["return_mean"]})
        if scores.get("success_rate") is not None:
            rate = {"type": "success_rate", "name": f"success rate ({of})", "value": scores["success_rate"]}
            metrics.append(rate)
    task = {"type": "reinforcement-learning", "name": "reinforcement-learning"}
    world = {"type": subject.cfg.task, "name": subject.cfg.task}
    return [{"task": task, "dataset": world, "metrics": metrics}]


def _yaml(value: Any, indent: str = "") -> Iterator[str]:
    """Lines of block style for mappings and lists."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, Mapping | list):
                yield f"{indent}{key}:"
                yield from _yaml(inner, indent + "  ")
            else:
                yield f"{indent}{key}: {_scalar(inner)}"
    elif isinstance(value, list):
        for item in value:
            first, *others = _yaml(item, indent + "  ")
            yield f"{indent}- {first.strip()}"
            yield from others
    else:
        yield f"{indent}{_scalar(value)}"


def _scalar(value: Any) -> str:
    """A number or text; YAML takes an exponent only after a decimal point."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("e", ".0e", 1) if isinstance(value, float) and "." not in text else text


def _title(subject: Subject) -> str:
    version = subject.session.get("versions", {}).get(TOOLKIT)
    made_with = f"{TOOLKIT} {version}" if version else TOOLKIT
    return (
        f"# {_plain(subject.name)}\n\n"
        f"A DreamerV3 agent for `{subject.cfg.task}`, trained with {made_with}: a "
        "world model, and an actor and a critic that learned in its dreams. The file holds all that acts and "
        f"dreams{_and_shows(subject)}; training cannot resume from it."
    )


def _and_shows(subject: Subject) -> str:
    """That a probe decoder is in the file, and what for."""
    if not subject.probe:
        return ""
    return ", and beside the agent a decoder, the module `probe`, that shows what its latents hold"


def _training(subject: Subject) -> str:
    cfg, steps, updates = subject.cfg, subject.counters["env_steps"], subject.counters["updates"]
    rows = {
        "task": f"`{cfg.task}`" + _changed(cfg),
        "observations": _spaces(subject.obs_space),
        "actions": _spaces(subject.act_space),
        "environment steps": f"{steps:,}",
        "updates": f"{updates:,}, of {cfg.loop.batch_size} sequences of {cfg.loop.batch_length} steps each",
        "training seed": str(cfg.seed),
        "preset": f"`{cfg.preset}`" if cfg.preset else "none",
        "started from": f"`{cfg.start.run}`" if cfg.start.run else "random parameters",
        "parameters": f"{subject.parameters:,}, stored as {subject.dtype}",
        **_probe(subject),
        "last session with": _versions(subject.session),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"## What it was trained on\n\n| | |\n| --- | --- |\n{table}"


def _probe(subject: Subject) -> dict[str, str]:
    """The row of a probe decoder, where there is one."""
    if not subject.probe:
        return {}
    return {"probe decoder": f"{subject.probe:,} parameters more, not of the agent: nothing acts on them"}


def _changed(cfg: Config) -> str:
    """Arguments and rules of the task that are not as by default."""
    changed = {name: value for name, value in cfg.env.changed.items() if name not in cfg.env.copies}
    return "".join(f", {name} `{_cell(value)}`" for name, value in changed.items())


def _spaces(spaces: Spaces) -> str:
    return ", ".join(f"`{_cell(name)}` {_space(space)}" for name, space in spaces.items())


def _space(space: Space) -> str:
    shape = "x".join(map(str, space.shape)) or "1"
    if space.is_discrete:
        return f"{shape} of {space.num_classes} classes"
    return f"image {shape}" if space.is_image else f"{shape} {space.dtype}"


def _versions(session: Mapping[str, Any]) -> str:
    versions = session.get("versions")
    if not isinstance(versions, Mapping) or not versions:
        return "not recorded"
    named = {"python": session.get("python"), **versions}
    listed = ", ".join(f"{name} {version}" for name, version in named.items() if version)
    return _cell(listed + (f", commit {session['commit']}" if session.get("commit") else ""))


def _scores(subject: Subject) -> str:
    head = "## Scores\n\n"
    if not subject.scores:
        return f"{head}{_unscored(subject)}"
    rows = "\n".join(_row(actor, scores, subject.result) for actor, scores in subject.scores.items())
    table = f"| actions | success | return | length | episodes |\n| --- | --- | --- | --- | --- |\n{rows}"
    notes = [_seeds(subject), _cut(subject), _suite(subject), envs.note(subject.cfg.task)]
    return head + table + "\n\n" + " ".join(filter(None, notes))


def _unscored(subject: Subject) -> str:
    """Why there are no scores, and how to get some."""
    result, of_run = subject.result, "the `result.json` of its run"
    if not result:
        why = "its run has no `result.json`"
    elif subject.is_of_result:
        why = f"{of_run} has no episodes"
    else:
        why = (
            f"{of_run} is of {result.get('env_steps')} environment steps and {result.get('updates')} updates"
        )
    return f"It was not evaluated: {why}. Measure it: `dreamer eval {subject.file} --episodes 1000`."


def _row(actor: str, scores: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    is_usual = actor == "sampled" and not acted_with([result])
    words = ACTORS[actor] + (", as in training" if is_usual else "")
    low, high = scores["return_interval"]
    success = "not reported by the task"
    if scores.get("success_rate") is not None:
        least, most = scores["success_interval"]
        success = f"{scores['success_rate']:.1%} [{least:.1%}, {most:.1%}]"
    return (
        f"| {words} | {success} | {scores['return_mean']:.4g} [{low:.4g}, {high:.4g}] "
        f"| {scores['length_mean']:.1f} | {scores['episodes']} |"
    )


def _seeds(subject: Subject) -> str:
    first = next(iter(subject.scores.values()))
    last = first["seed"] + first["episodes"] - 1
    return (
        f"Episodes of the seeds {first['seed']} to {last}, which training never uses: its seeds begin at "
        f"{FIRST_TRAINING_SEED:,}. In brackets 95% intervals over episodes (Wilson for rates, bootstrap for "
        "means)."
    )


def _cut(subject: Subject) -> str:
    cut = {actor: scores.get("truncated_by_limit") for actor, scores in subject.scores.items()}
    limit = subject.result.get("step_limit")
    listed = " and ".join(f"{n} of the {actor} episodes" for actor, n in cut.items() if n)
    return f"After {limit:,} steps {listed} were cut short." if listed and limit else ""


def _suite(subject: Subject) -> str:
    """The score of the suite, which is of training episodes."""
    score = subject.result.get("score")
    if not isinstance(score, Mapping) or not score:
        return ""
    numbers = ((name, value) for name, value in score.items() if isinstance(value, int | float))
    listed = ", ".join(f"{name} {value:.4g}" for name, value in numbers)
    words = ", ".join(filter(None, ("Of the last training episodes", acted_with([subject.result]))))
    return f"{words}: {listed}." if listed else ""


def _limits(subject: Subject) -> str:
    cfg, steps = subject.cfg, subject.counters["env_steps"]
    seeds = "; the intervals say nothing of other seeds" if subject.scores else ""
    limits = [
        f"It is one agent of one training seed ({cfg.seed}){seeds}.",
        f"It was trained on `{cfg.task}` alone. Other tasks, and changed observations, rewards or versions "
        "of the environment, were not measured.",
        "This card does not say how accurate its world model is, and whether its actions are safe outside of "
        "the environment was not examined.",
        *_failures(subject),
        *_seen(subject),
    ]
    if subject.dtype != "float32":
        limits.append(f"What was measured were float32 parameters; these are rounded to {subject.dtype}.")
    if cfg.steps > steps:
        limits.append(f"Training was set to {cfg.steps:,} environment steps at most, and had {steps:,}.")
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _failures(subject: Subject) -> Iterator[str]:
    """What the end of the run says against it."""
    until = subject.result.get("until")
    if until and subject.scores and not subject.result.get("solved"):
        yield f"Its goal, {_cell(until)}, was not reached."
    if subject.result.get("diverged"):
        yield f"Its training failed: {_cell(subject.result['diverged'])}"


def _seen(subject: Subject) -> Iterator[str]:
    """What observations of its dreams do not say."""
    if subject.probe:
        yield (
            "What its latents look like comes from the probe decoder, which learned from them and changed "
            "nothing in the agent: it shows what they hold, not what the world model was trained to predict."
        )


def _use(subject: Subject) -> str:
    arguments = {**subject.cfg.env.changed, "num_envs": 1}
    elsewhere = (*subject.cfg.env.training, *subject.cfg.env.copies)
    options = ", ".join(f"{k}={v!r}" for k, v in arguments.items() if k not in elsewhere)
    licence = (
        f"The parameters have the licence {subject.license}."
        if subject.license
        else "No licence was chosen for the parameters."
    )
    return f"""## How to use it

With {TOOLKIT} installed, `dreamer eval {subject.file}` plays 100 episodes. In Python:

```python
import dreamer, envs

agent = dreamer.load({json.dumps(subject.file)})
env = envs.make({json.dumps(subject.cfg.task)}, {options})
step, carry = env.reset(seeds=[0]), agent.init(1)
for t in range(100):
    action, carry = agent.act(carry, step, key=t)
    step = env.step(action)
```

Reading the file runs nothing that is in it; making its environment imports that environment's package.

## Licence

{licence} {TOOLKIT} has the MIT licence."""


def _plain(text: str) -> str:
    """Text in one line."""
    return " ".join(str(text).split())


def _cell(value: Any) -> str:
    """Text within a cell of a table."""
    return _plain(value).replace("|", "\\|").replace("`", "'")


def finite(result: Any) -> Any:
    """A result without numbers that are not finite, which no card can say."""
    if isinstance(result, Mapping):
        return {name: finite(value) for name, value in result.items()}
    if isinstance(result, Sequence) and not isinstance(result, str):
        return [finite(value) for value in result]
    return None if isinstance(result, float) and not math.isfinite(result) else result
