"""Reads golden files of the reference implementation: its configuration and parameter names as ours.

The files hold one small agent each, computed by danijar/dreamerv3 (main line of May 2026) in float32 on
a CPU with every random choice made deterministic: categorical latents and discrete actions take their argmax,
continuous actions are mean + 0.5 * stddev.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamer.agent import Agent, TrainState
from dreamer.config import (
    ActorCriticConfig,
    AgentConfig,
    DecoderConfig,
    EncoderConfig,
    HeadConfig,
    LossConfig,
    OptimConfig,
    PolicyConfig,
    RSSMConfig,
    TwoHotConfig,
)
from dreamer.ops import optim, running
from dreamer.ops.dists import GREEDY, Sampler
from dreamer.records import Batch, Latent
from envs.api import Space

DETERMINISTIC = Sampler(GREEDY.uniform, GREEDY.categorical, lambda key, shape: jnp.full(shape, 0.5))

FIXED = {  # What the toolkit has no switch for, and the value it implements.
    "ac_grads": False,
    "dyn.rssm.act": "silu",
    "dyn.rssm.norm": "rms",
    "dyn.rssm.outscale": 1.0,
    "dyn.rssm.absolute": False,
    "enc.simple.symlog": True,
    "enc.simple.outer": False,
    "enc.simple.strided": False,
    "dec.simple.outscale": 1.0,
    "dec.simple.outer": False,
    "dec.simple.strided": False,
    "rewhead.output": "symexp_twohot",
    "conhead.output": "binary",
    "value.output": "symexp_twohot",
    "policy_dist_disc": "categorical",
    "policy_dist_cont": "bounded_normal",
    "retnorm.impl": "perc",
    "retnorm.debias": False,
    "valnorm.impl": "none",
    "advnorm.impl": "none",
    "opt.momentum": True,
}


class Golden(NamedTuple):
    """One file."""

    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def part(self, prefix: str) -> dict[str, np.ndarray]:
        return {k[len(prefix) :]: v for k, v in self.arrays.items() if k.startswith(prefix)}


def load(path: Path) -> Golden:
    with np.load(path, allow_pickle=False) as file:
        arrays = {k: file[k] for k in file.files}
    golden = Golden(json.loads(str(arrays.pop("meta"))), arrays)
    for name, expected in FIXED.items():
        value = golden.meta["agent"]
        for part in name.split("."):
            value = value[part]
        assert value == expected, f"{path.name}: no such switch, {name} = {value}"
    return golden


def spaces(meta: dict[str, Any], kind: str) -> dict[str, Space]:
    result = {}
    for name, s in meta[kind].items():
        space = Space(tuple(s["shape"]), s["dtype"], s["classes"])
        image = kind == "obs_space" and s["dtype"] == "uint8" and len(s["shape"]) == 3
        result[name] = Space(space.shape, space.dtype) if image else space
    return result


def config(meta: dict[str, Any]) -> AgentConfig:
    a = meta["agent"]
    enc, dec, rssm = a["enc"]["simple"], a["dec"]["simple"], a["dyn"]["rssm"]
    scales, opt = a["loss_scales"], a["opt"]
    head = lambda h: HeadConfig(h["layers"], h["units"])
    twohot = lambda h: TwoHotConfig(h["layers"], h["units"], h["bins"])
    return AgentConfig(
        encoder=EncoderConfig(enc["layers"], enc["units"], enc["depth"], tuple(enc["mults"]), enc["kernel"]),
        decoder=DecoderConfig(
            dec["layers"], dec["units"], dec["depth"], tuple(dec["mults"]), dec["kernel"], dec["bspace"]
        ),
        rssm=RSSMConfig(
            deter=rssm["deter"],
            hidden=rssm["hidden"],
            stoch=rssm["stoch"],
            classes=rssm["classes"],
            blocks=rssm["blocks"],
            core_layers=rssm["dynlayers"],
            prior_layers=rssm["imglayers"],
            post_layers=rssm["obslayers"],
        ),
        reward=twohot(a["rewhead"]),
        cont=head(a["conhead"]),
        policy=PolicyConfig(
            a["policy"]["layers"], a["policy"]["units"], a["policy"]["minstd"], a["policy"]["maxstd"]
        ),
        value=twohot(a["value"]),
        behavior=ActorCriticConfig(
            imag_length=a["imag_length"],
            imag_last=a["imag_last"],
            horizon=a["horizon"],
            discount_in_cont=a["contdisc"],
            lam=a["imag_loss"]["lam"],
            replay_lam=a["repl_loss"]["lam"],
            entropy=a["imag_loss"]["actent"],
            unimix=0.0,  # The reference's categorical policy has none.
            slow_rate=a["slowvalue"]["rate"],
            slow_every=a["slowvalue"]["every"],
            slow_reg=a["imag_loss"]["slowreg"],
            replay_slow_reg=a["repl_loss"]["slowreg"],
            slow_target=a["imag_loss"]["slowtar"],
            return_rate=a["retnorm"]["rate"],
            return_low=a["retnorm"]["perclo"],
            return_high=a["retnorm"]["perchi"],
            return_limit=a["retnorm"]["limit"],
            replay_value=a["repval_loss"],
            replay_value_grad=a["repval_grad"],
        ),
        loss=LossConfig(
            rec=scales["rec"],
            reward=scales["rew"],
            cont=scales["con"],
            dyn=scales["dyn"],
            rep=scales["rep"],
            policy=scales["policy"],
            value=scales["value"],
            replay_value=scales.get("repval", 0.0),
            free_nats=rssm["free_nats"],
            unimix=rssm["unimix"],
            reward_grad=a["reward_grad"],
        ),
        optim=OptimConfig(
            lr=opt["lr"],
            warmup=opt["warmup"],
            schedule=opt["schedule"],
            anneal=opt["anneal"],
            agc=opt["agc"],
            beta1=opt["beta1"],
            beta2=opt["beta2"],
            eps=opt["eps"],
            weight_decay=opt["wd"],
        ),
        dtype="float32",
    )


LOSSES = {"rew": "reward", "con": "cont", "repval": "replay_value"}


def loss_name(name: str, meta: dict[str, Any]) -> str:
    return f"rec/{name}" if name in meta["obs_space"] else LOSSES.get(name, name)


def paths(meta: dict[str, Any]) -> list[tuple[str, str]]:
    """Rewrite rules from the reference's parameter names to our paths, first match wins."""
    convs = len(meta["agent"]["dec"]["simple"]["mults"]) - 1
    mlp = [(r"mlp/linear(\d+)", r"mlp/layers/\1/linear"), (r"mlp/norm(\d+)", r"mlp/layers/\1/norm")]
    head = lambda old, new: [(f"{old}/{a}", f"{new}/{b}") for a, b in mlp]
    return [
        (r"enc/mlp(\d+)norm", r"encoder/mlp/layers/\1/norm"),
        (r"enc/mlp(\d+)", r"encoder/mlp/layers/\1/linear"),
        (r"enc/cnn(\d+)norm", r"encoder/norms/\1"),
        (r"enc/cnn(\d+)", r"encoder/convs/\1"),
        (r"dyn/dynin0norm", "rssm/embed_deter/norm"),
        (r"dyn/dynin0", "rssm/embed_deter/linear"),
        (r"dyn/dynin1norm", "rssm/embed_stoch/norm"),
        (r"dyn/dynin1", "rssm/embed_stoch/linear"),
        (r"dyn/dynin2norm", "rssm/embed_action/norm"),
        (r"dyn/dynin2", "rssm/embed_action/linear"),
        (r"dyn/dynhid(\d+)norm", r"rssm/core_norms/\1"),
        (r"dyn/dynhid(\d+)", r"rssm/core/\1"),
        (r"dyn/dyngru", "rssm/gates"),
        (r"dyn/obslogit", "rssm/post_out"),
        (r"dyn/obs(\d+)norm", r"rssm/post/layers/\1/norm"),
        (r"dyn/obs(\d+)", r"rssm/post/layers/\1/linear"),
        (r"dyn/priorlogit", "rssm/prior_out"),
        (r"dyn/prior(\d+)norm", r"rssm/prior_mlp/layers/\1/norm"),
        (r"dyn/prior(\d+)", r"rssm/prior_mlp/layers/\1/linear"),
        *head("dec", "objective/decoder"),
        (r"dec/vec/(.+)/(?:pred|logits)(?=/\w+$)", r"objective/decoder/out/\1"),
        (r"dec/sp0", "objective/decoder/from_deter"),
        (r"dec/sp1norm", "objective/decoder/from_stoch/norm"),
        (r"dec/sp1", "objective/decoder/from_stoch/linear"),
        (r"dec/sp2", "objective/decoder/from_stoch_out"),
        (r"dec/spnorm", "objective/decoder/norm"),
        *[(f"dec/conv{i}norm", f"objective/decoder/norms/{convs - 1 - i}") for i in range(convs)],
        *[(f"dec/conv{i}", f"objective/decoder/convs/{convs - 1 - i}") for i in range(convs)],
        (r"dec/imgout", "objective/decoder/image_out"),
        *head("rew", "reward"),
        (r"rew/head/logits", "reward/out"),
        *head("con", "cont"),
        (r"con/head/logit", "cont/out"),
        *head("pol", "policy"),
        (r"pol/head/(.+)/logits(?=/\w+$)", r"policy/out/\1"),
        (r"pol/head/(.+)/(mean|stddev)(?=/\w+$)", r"policy/out/\1/\2"),
        *head("val", "value"),
        (r"val/head/logits", "value/out"),
    ]


def rename(name: str, rules: list[tuple[str, str]]) -> str:
    """`dyn/dynin0/kernel` -> `rssm/embed_deter/linear/kernel`."""
    for old, new in rules:
        if re.match(old, name):
            return re.sub(f"^{old}", new, name).replace("/stddev/", "/std/")
    raise KeyError(f"no rule for the parameter {name}")


def tree(arrays: dict[str, np.ndarray], rules: list[tuple[str, str]], like: Any) -> Any:
    """The reference's flat arrays of some modules as our tree of parameters, shapes checked."""
    flat = {rename(k, rules): v for k, v in arrays.items()}
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    leaves = jax.tree_util.tree_leaves_with_path(like)
    assert {name(path) for path, _ in leaves} == flat.keys()
    for path, leaf in leaves:
        assert leaf.shape == flat[name(path)].shape, name(path)
    return jax.tree_util.tree_map_with_path(lambda path, _: jnp.asarray(flat[name(path)]), like)


MODULES = ("enc", "dyn", "dec", "rew", "con", "pol", "val")


def train_state(golden: Golden, agent: Agent, prefix: str = "param/") -> TrainState:
    """The reference's parameters, slow critic and normaliser as the state of our agent."""
    rules = paths(golden.meta)
    like = jax.eval_shape(agent.init, jax.random.key(0))
    stored = golden.part(prefix)
    pick = lambda *modules: {k: v for k, v in stored.items() if k.split("/")[0] in modules}
    slow = {k.replace("slowval/", "val/"): v for k, v in pick("slowval").items()}
    params = tree(pick(*MODULES), rules, like.params)
    low, high = (jnp.asarray(stored[f"retnorm/{k}/value"]) for k in ("lo", "hi"))
    return TrainState(
        params=params,
        slow={**like.slow, **tree(slow, rules, {"value": like.slow["value"]})},
        stats={"returns": running.Percentiles(low, high)},
        opt=optim.laprop_init(params),
        updates=jnp.zeros((), jnp.int32),
    )


def batch(golden: Golden) -> tuple[Batch, Latent, dict[str, Any]]:
    """The batch, the zero latent before it and the actions before every step (zero at index 0)."""
    meta, stored = golden.meta, golden.part("batch/")
    arrays = {k: jnp.asarray(v) for k, v in stored.items()}
    action = {k: arrays[k] for k in meta["act_space"]}
    shift = lambda x: jnp.concatenate([jnp.zeros_like(x[:, :1]), x[:, :-1]], 1)
    rssm = meta["agent"]["dyn"]["rssm"]
    size = meta["batch_size"]
    latent = Latent(jnp.zeros((size, rssm["deter"])), jnp.zeros((size, rssm["stoch"], rssm["classes"])))
    recorded = Batch(
        obs={k: arrays[k] for k in meta["obs_space"]},
        action=action,
        reward=arrays["reward"],
        is_first=arrays["is_first"],
        is_last=arrays["is_last"],
        is_terminal=arrays["is_terminal"],
        context_latent=latent.pack(),
        context_action={k: jnp.zeros_like(v[:, 0]) for k, v in action.items()},
    )
    return recorded, latent, {k: shift(v) for k, v in action.items()}
