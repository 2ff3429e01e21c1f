"""Gumbel MuZero: a tree search in the world model, by the package mctx."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from dreamer.actors import planning
from dreamer.actors.planning import Doubt, Plan, Planned
from dreamer.config import Count, Scale
from dreamer.records import Latent
from dreamer.schema import ConfigError
from dreamer.world import World
from envs.api import Spaces


@dataclass(frozen=True)
class GumbelConfig(Doubt):
    """The planner gumbel."""

    simulations: Count = 16
    """Steps of the model that the search takes."""
    considered: Count = 8
    """Actions that compete at the root, by sequential halving."""
    drawn: Count = 8
    """Actions that the policy draws in every node, where actions are not one choice among a few."""
    choices: Count = 32
    """Up to so many classes of a single choice all of them are searched, instead of drawn ones."""
    depth: Count = 16
    """Most steps that the search looks ahead."""
    noise: Scale = 0.0
    """Scale of the Gumbel noise at the root; 1 as when a policy learns from the search, 0 takes the best."""


class Node(NamedTuple):
    """What the tree keeps of a state."""

    latent: Latent
    """[N, ...]."""
    actions: Plan
    """{key: [N, A, ...]} that can be taken from there."""
    over: Array
    """[N] whether the model believes that the episode has ended, here or before."""


@dataclass(frozen=True)
class Gumbel:
    """Searches a tree of imagined actions; works with every kind of action, and starts each search afresh.

    A node's value is the critic's, an edge has the reward and the discount of the state that it reaches, and
    nothing follows a predicted ending. All actions of a small choice are searched, with the policy's
    probabilities before; of other spaces the policy draws some, which are then equally likely before.

    Reference: Danihelka et al. (2022), Policy improvement by planning with Gumbel; Hubert et al. (2021),
    Learning and planning in complex action spaces (drawn actions). The search itself is that of mctx.
    """

    act_space: Spaces
    cfg: GumbelConfig

    def __post_init__(self) -> None:
        _mctx()

    @property
    def modules(self) -> tuple[str, ...]:
        """Dynamics, reward, endings, values, and the policy, which says what is worth searching."""
        return planning.MODULES

    @property
    def model_steps(self) -> int:
        """Steps of the model for a decision: one in every simulation."""
        return self.cfg.simulations

    def init(self, batch: int) -> Planned[tuple[()]]:
        """No search starts from another; only what the last one expected is kept."""
        return Planned((), jnp.full(batch, jnp.nan))

    def act(
        self, world: World, latent: Latent, memory: Planned[tuple[()]], is_first: Array, *, key: Array
    ) -> tuple[dict[str, Array], Planned[tuple[()]]]:
        """The action that wins at the root: latents [N, ...] -> {key: [N, ...]}."""
        chex.assert_rank(is_first, 1)
        chex.assert_tree_shape_prefix(latent, is_first.shape)
        mctx, cfg = _mctx(), self.cfg
        dream = world.with_equal_luck()
        root_key, search_key, policy_key = jax.random.split(key, 3)
        alive = jnp.zeros(is_first.shape, bool)
        node, logits, value = self._expand(world, latent, alive, root_key)

        def step(params: Any, key: Array, choice: Array, node: Node) -> tuple[Any, Node]:
            luck, draw = jax.random.split(key)
            action = {name: _pick(a, choice) for name, a in node.actions.items()}
            reached = dream.step(node.latent, action, key=luck)
            feat = reached.feat
            over = node.over | (world.survival(feat) < planning.OVER)
            reward = jnp.where(node.over, 0.0, world.reward(feat))
            discount = jnp.where(over, 0.0, world.discount(feat))
            child, logits, value = self._expand(world, reached, over, draw)
            out = mctx.RecurrentFnOutput(reward=reward, discount=discount, prior_logits=logits, value=value)
            return out, child

        policy = mctx.gumbel_muzero_policy(
            params=(),
            rng_key=search_key,
            root=mctx.RootFnOutput(prior_logits=logits, value=value, embedding=node),
            recurrent_fn=step,
            num_simulations=cfg.simulations,
            max_depth=cfg.depth,
            max_num_considered_actions=cfg.considered,
            gumbel_scale=cfg.noise,
        )
        action = {name: _pick(a, policy.action) for name, a in node.actions.items()}
        worked = jnp.isfinite(policy.search_tree.node_values).all(-1) & jnp.isfinite(
            policy.action_weights
        ).all(-1)
        expected = _pick(policy.search_tree.summary().qvalues, policy.action)
        planned = Planned((), planning.known(expected, worked))
        return planning.or_policy(world, latent, action, worked, key=policy_key), planned

    def _expand(self, world: World, latent: Latent, over: Array, key: Array) -> tuple[Node, Array, Array]:
        """A node, [N, A] logits of its actions, [N] its value."""
        feat = latent.feat
        actions, logits = self._actions(world, feat, key)
        value = jnp.where(over, 0.0, self.cfg.value(world.values(feat)))
        return Node(latent, actions, over), logits, value

    def _actions(self, world: World, feat: Array, key: Array) -> tuple[Plan, Array]:
        (name, space), *others = self.act_space.items()
        if not others and space.is_discrete and space.size == 1 and space.num_classes <= self.cfg.choices:
            lead = lambda choice: jnp.full((len(feat), *space.shape), choice)
            every = jax.vmap(lead)(jnp.arange(space.num_classes, dtype=space.dtype))
            logits = jax.vmap(world.policy(feat)[name].log_prob)(every)
            return {name: jnp.moveaxis(every, 0, 1)}, logits.T
        draw = lambda feat: world.choose(jnp.broadcast_to(feat, (self.cfg.drawn, *feat.shape)), key)
        return jax.vmap(draw)(feat), jnp.zeros((len(feat), self.cfg.drawn))


def _pick(actions: Array, choice: Array) -> Array:
    """[N, A, ...], [N] -> [N, ...]."""
    return jax.vmap(lambda actions, choice: actions[choice])(actions, choice)


def _mctx() -> ModuleType:
    try:
        import mctx
    except ImportError:
        raise ConfigError("the actor gumbel needs mctx: pip install 'dreamer-toolkit[planning]'") from None
    return mctx
