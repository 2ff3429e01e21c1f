"""Rules about what was learned: the world model by its report card or its losses, then critic and policy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dreamer.config import CDPConfig
from experiments.diagnosis import limits
from experiments.diagnosis.finding import Finding, rounded
from experiments.diagnosis.summary import Summary
from experiments.report.meanings import MEANINGS

OBJECTIVE_LOSSES = {"reconstruction": ("rec",), "none": ()}
"""{objective: the fields of `agent.loss` that weigh its losses}, where there is not one of its name."""
COSTLY = ("reconstruction", "barlow", "infonce")
"""Objectives for which equal tokens are the worst that there is."""


def objective_weights(run: Summary) -> dict[str, float]:
    """{field: weight} of every loss of the objective `a` or `a+b`; those of a class elsewhere are `rec`."""
    loss = run.cfg.agent.loss
    parts = run.cfg.agent.objective.split("+")
    names = [OBJECTIVE_LOSSES.get(part, (part if part in vars(loss) else "rec",)) for part in parts]
    return {f"agent.loss.{name}": getattr(loss, name) for some in names for name in some}


def _heavier(run: Summary) -> dict[str, float]:
    """Ten times the weight of what the representation must predict."""
    return {field: rounded(10 * weight) for field, weight in objective_weights(run).items() if weight}


def collapsed_tokens(run: Summary) -> Finding | None:
    """The encoder says nearly the same of everything it sees."""
    evidence = []
    for name, title in (("tokens_rank", "effective rank"), ("tokens_live", "share of live tokens")):
        kept, logged = run.card.get(f"{name}_kept"), name.replace("_", "/")
        first, last = run.metrics.early(logged), run.metrics.late(logged)
        if kept is not None and kept < MEANINGS[f"{name}_kept"].low:
            evidence += [f"{title} {run.card.get(name, 0):.3g}, {kept:.0%} of that of an untrained encoder"]
        elif kept is None and first and last is not None and last < MEANINGS[f"{name}_kept"].low * first:
            evidence += [f"{title} {first:.3g} at first, {last:.3g} at the end"]
    if not evidence:
        return None
    is_costly = bool(set(run.cfg.agent.objective.split("+")) & set(COSTLY))
    return Finding(
        "The representation has collapsed: the encoder says nearly the same of everything it sees.",
        "; ".join(evidence),
        _against_collapse(run),
        "" if is_costly else "With reconstruction, barlow or infonce (agent.objective) it costs most.",
    )


def _against_collapse(run: Summary) -> dict[str, Any]:
    """What keeps the tokens apart, by the first objective that has something of the kind."""
    agent = run.cfg.agent
    apart: dict[str, dict[str, Any]] = {
        "cdp": {"agent.cdp.factors": _slower(agent.cdp)},
        "sigreg": {"agent.sigreg.weight": rounded(3 * agent.sigreg.weight)},
        "visreg": {"agent.visreg.share": round(1 - (1 - agent.visreg.share) / 3, 3)},
    }
    alone = {"none": "barlow", "value_equivalent": "value_equivalent+barlow"}
    if agent.objective in alone:
        return {"agent.objective": alone[agent.objective]}
    named = [apart[part] for part in agent.objective.split("+") if part in apart]
    return named[0] if named else _heavier(run)


def _slower(cdp: CDPConfig) -> str:
    """The factors of learning rates with an encoder that moves slowly enough, as an option takes them."""
    rates = lambda cfg: dict(entry.split("=") for entry in cfg.factors)
    usual, now = (float(rates(cfg).get("encoder", 1)) for cfg in (CDPConfig(), cdp))
    factors = rates(cdp) | {"encoder": f"{min(now / 3, usual):.2g}"}
    return ",".join(f"{path}={factor}" for path, factor in factors.items())


def collapsed_latents(run: Summary) -> Finding | None:
    """The posterior carries nothing of what is seen."""
    used, kl = run.card.get("latents_used"), run.metrics.late("loss/dyn")
    loss = run.cfg.agent.loss
    is_at_floor = kl is not None and kl <= limits.AT_FLOOR * loss.free_nats
    is_unused = is_at_floor and _is_unfitted(run) if used is None else used < MEANINGS["latents_used"].low
    if not is_unused:
        return None
    evidence = [] if used is None else [f"{used:.0%} of the latents take more than one value"]
    evidence += [] if kl is None else [f"KL {kl:.3g} nats, agent.loss.free_nats is {loss.free_nats:g}"]
    changes: dict[str, Any] = {"agent.loss.free_nats": 1.0} if loss.free_nats > 1 else {}
    return Finding(
        "The latents carry nothing of what is seen (posterior collapse).",
        "; ".join(evidence),
        {**changes, **_heavier(run)},
    )


def world_model(run: Summary) -> Finding | None:
    """Observations are not predicted."""
    evidence = _unhealthy(run, "prediction_skill")
    if not evidence and "prediction_skill" not in run.card and _is_unfitted(run):
        first, last = run.metrics.early("loss/rec/"), run.metrics.late("loss/rec/")
        evidence = f"reconstruction loss {first:.3g} at first, {last:.3g} at the end"
    if not evidence:
        return None
    return Finding(
        "The world model does not predict what will be seen, so its dreams teach little.",
        evidence,
        {"steps": rounded(2 * run.env_steps), **_heavier(run)},
        "The larger weight is for observations of a few numbers; images and rich worlds need a larger agent "
        "(--size 12m) and more updates (loop.train_ratio).",
    )


def _is_unfitted(run: Summary) -> bool:
    """Whether the reconstruction loss hardly fell; False where its beginning was not logged."""
    first, last = run.metrics.early("loss/rec/"), run.metrics.late("loss/rec/")
    if first is None or last is None or len(run.metrics.rows) < 4:
        return False
    return run.metrics.first_updates < run.updates / 10 and last > limits.UNLEARNED * first


def _unhealthy(run: Summary, name: str) -> str:
    """A number of the report card beside what is healthy; empty where it is unknown or healthy."""
    value, meaning = run.card.get(name), MEANINGS[name]
    if value is None or meaning.low <= value <= meaning.high:
        return ""
    title = f"{meaning.title[0].lower()}{meaning.title[1:]}"
    return f"{title} {value:.2f} in the report card; healthy is {meaning.healthy}"


def ignored_actions(run: Summary) -> Finding | None:
    """Predictions do not depend on actions."""
    if not (evidence := _unhealthy(run, "action_ratio")):
        return None
    return Finding(
        "The world model does not care what the agent does, so its dreams cannot compare actions.",
        evidence,
        {"steps": rounded(2 * run.env_steps)},
        "See whether actions change anything that is observed within a few steps.",
    )


def reward_model(run: Summary) -> Finding | None:
    """Rewards are not predicted."""
    if not (evidence := _unhealthy(run, "reward_skill")):
        return None
    return Finding(
        "The world model does not foresee rewards: its dreams do not say which actions earn them.",
        evidence,
        {"steps": rounded(2 * run.env_steps), **heavier_losses(run)},
        "See whether the reward follows from what is observed; where it depends on something seen long "
        "before, sequences must reach back to it (loop.batch_length).",
    )


def heavier_losses(run: Summary) -> dict[str, float]:
    """Weights with which a small observation is remembered and a rare reward is learned."""
    loss = run.cfg.agent.loss
    weights = objective_weights(run) | {"agent.loss.reward": loss.reward}
    return {field: most for field, most in _most(run).items() if weights[field] < most}


def _most(run: Summary) -> dict[str, float]:
    """{field: weight that has helped}; of other objectives than reconstruction none is known."""
    rec = {"agent.loss.rec": 10.0} if "agent.loss.rec" in objective_weights(run) else {}
    return rec | {"agent.loss.reward": 3.0}


def remember(run: Summary) -> str:
    """What makes a world model remember, as advice; empty for PPO."""
    if run.is_ppo:
        return ""
    listed = ", ".join(f"{field} {most:g}" for field, most in _most(run).items())
    return f"Where something seen earlier decides, heavier losses make it remember that: {listed}."


def endings_model(run: Summary) -> Finding | None:
    """Endings are not predicted."""
    if not (evidence := _unhealthy(run, "cont_error")):
        return None
    return Finding(
        "The world model does not know when episodes end.",
        evidence,
        {"steps": rounded(2 * run.env_steps), "agent.loss.cont": rounded(10 * run.cfg.agent.loss.cont)},
        "A time limit must be a truncation, not a termination, unless the time is observed.",
    )


def critic(run: Summary) -> Finding | None:
    """Values do not follow the returns."""
    evidence = [text for text in [_unhealthy(run, "value_skill")] if text]
    value, most = run.metrics.late("value"), float(np.abs(run.episodes.return_).max(initial=0.0))
    if value is not None and abs(value) > limits.OVERRATED * max(most, 1e-3):
        evidence += [f"it promises {value:.3g} on average, and no episode earned more than {most:.3g}"]
    if not evidence:
        return None
    return Finding(
        "The critic does not follow the returns, so the actor is led astray.",
        "; ".join(evidence),
        {"agent.loss.replay_value": 1.0, "steps": rounded(2 * run.env_steps)},
        "A shorter agent.behavior.horizon makes returns easier to learn.",
    )


def entropy_collapsed(run: Summary) -> Finding | None:
    """The policy tries nothing any more."""
    random = run.metrics.late("randomness/")
    if random is None or random >= limits.COLLAPSED:
        return None
    return Finding(
        "The policy became certain before it was good: it tries nothing else any more.",
        f"randomness {random:.2f} (0 is certain, 1 draws blindly), {run.shown(run.late.estimate.value)}; "
        f"agent.behavior.entropy is {run.entropy:g}",
        {"agent.behavior.entropy": max(rounded(3 * run.entropy), 3e-3)},
        remember(run),
    )


def entropy_never_fell(run: Summary) -> Finding | None:
    """The policy is still random."""
    random, spread = run.metrics.late("randomness/"), run.metrics.late("advantage_std")
    if random is None or random <= limits.BLIND:
        return None
    differ = "" if spread is None else f", advantages differ by {spread:.2g}"
    return Finding(
        "The policy is still random: nothing was learned about which actions are better.",
        f"randomness {random:.2f} (1 draws blindly); agent.behavior.entropy is {run.entropy:g}{differ}",
        {"steps": rounded(2 * run.env_steps), "agent.behavior.entropy": rounded(run.entropy / 3)},
    )


def clipped_gradients(run: Summary) -> Finding | None:
    """Gradients are larger than clipping lets through.

    Every tensor's gradient is clipped at agc times its norm: if none were above that, the norm of all
    gradients would be at most agc times that of all parameters.
    """
    grads, params = run.metrics.column("opt/grad_norm"), run.metrics.column("opt/param_norm")
    agc = run.cfg.agent.optim.agc
    if not agc or len(grads) != len(params) or len(grads) < 4:
        return None
    late = slice(len(grads) // 2, None)
    share = float((grads[late] > agc * params[late]).mean())
    if share < limits.OFTEN:
        return None
    return Finding(
        "Gradients are clipped all the time: rewards or observations are huge, or the losses unstable.",
        f"in {share:.0%} of the late rows the gradient is above {agc:g} of the norm of the parameters; at "
        f"the end {grads[-1]:.3g} of {params[-1]:.3g}",
        {"agent.optim.lr": rounded(run.lr / 3)},
        "Scale rewards and observed numbers to around 1 (env.wrappers).",
    )


def ppo_steps(run: Summary) -> Finding | None:
    """The policy moves too far in an iteration."""
    share = run.metrics.late("clipped")
    if share is None or share < limits.PPO_CLIPPED:
        return None
    return Finding(
        "The policy moves too far in every iteration.",
        f"{share:.0%} of the probability ratios were clipped",
        {"agent.optim.lr": rounded(run.lr / 3)},
    )


def ppo_critic(run: Summary) -> Finding | None:
    """Returns are not explained."""
    explained = run.metrics.late("explained_variance")
    if explained is None or not math.isfinite(explained) or explained >= limits.PPO_BLIND_CRITIC:
        return None
    return Finding(
        "The critic explains next to nothing of the returns.",
        f"explained variance {explained:.2f}; 1 is perfect",
        {"steps": rounded(2 * run.env_steps)},
    )
