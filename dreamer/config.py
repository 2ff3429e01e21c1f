"""Every choice of a run on one page: what it is, what it may be, and its default (the paper's, at size 1m).

All of it is frozen, hashable and free of JAX, so that a command line can show and check it at once.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from dreamer import schema
from dreamer.schema import Arguments, ConfigError, Named, Range, Section, Traced

FIRST_TRAINING_SEED = 2**30
"""Evaluation seeds lie below it, training seeds from it on (`envs.api` has the same number)."""

Count = Annotated[int, Range(1)]
Odd = Annotated[int, Range(1, odd=True)]
Natural = Annotated[int, Range(0)]
Layers = Annotated[int, Range(0, 1000)]
SomeLayers = Annotated[int, Range(1, 1000)]
Scale = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
Share = Annotated[float, Range(0, 1, below=True)]
"""Fraction below 1."""
Weight = Annotated[float, Range(0, 1)]
Rate = Annotated[float, Range(0, 1, above=True)]
Seed = Annotated[int, Range(0, FIRST_TRAINING_SEED, below=True)]
"""Of an episode that training never sees."""


DECODER_FREE = ("barlow", "infonce", "next_embedding", "cdp", "sigreg", "visreg", "value_equivalent")
"""Each has a weight in `LossConfig`, and a section of its name where it has other settings."""
OBJECTIVES = ("reconstruction", "none", *DECODER_FREE)
"""Names of `dreamer.objectives.OBJECTIVES`, which imports JAX."""
SEPARATE = ("reconstruction", "none", "cdp", "value_equivalent")
"""Those whose loss of a sequence does not depend on the others of its batch."""
MESH_AXES = ("data", "fsdp")
"""Of a mesh of devices: both split the batch, the second also large parameters (`dreamer.placement`)."""
STAGES = 12
"""Of a CNN at most: each halves the image."""


def _check_stages(mults: tuple[int, ...]) -> None:
    if not mults:
        raise ConfigError("mults must have an entry for every stage, but it is empty")
    if len(mults) > STAGES:
        raise ConfigError(f"mults must have at most {STAGES} entries, but it has {len(mults)}")


@dataclass(frozen=True)
class EncoderConfig(Section):
    """Size of the encoder."""

    layers: Layers = 3
    """Layers of the MLP for vectors and categories."""
    units: Count = 64
    """Width of each."""
    depth: Count = 4
    """Channels of the CNN, times the multiplier of the stage."""
    mults: tuple[Count, ...] = (2, 3, 4, 4)
    """Channel multiplier of each stage; every stage halves the image."""
    kernel: Odd = 5
    """Side of the convolution kernels (odd)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_stages(self.mults)


@dataclass(frozen=True)
class DecoderConfig(Section):
    """Size of the decoder."""

    layers: Layers = 3
    """Layers of the MLP for vectors and categories."""
    units: Count = 64
    """Width of each, and half the width of the layer from latent to image."""
    depth: Count = 4
    """Channels of the CNN, times the multiplier of the stage."""
    mults: tuple[Count, ...] = (2, 3, 4, 4)
    """Channel multiplier of each stage, from the largest resolution to the smallest."""
    kernel: Odd = 5
    """Side of the convolution kernels (odd)."""
    blocks: Count = 8
    """Blocks of the map from the deterministic state to the smallest image."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_stages(self.mults)


@dataclass(frozen=True)
class RSSMConfig(Section):
    """Size of the dynamics."""

    deter: Count = 512
    """D, width of the deterministic state."""
    hidden: Count = 64
    """Width of the layers around the recurrence."""
    stoch: Count = 32
    """S, number of categorical variables in the stochastic state."""
    classes: Annotated[int, Range(2, 256)] = 4
    """C, classes of each."""
    blocks: Count = 8
    """Independent blocks of the recurrence; must divide `deter`."""
    core_layers: SomeLayers = 1
    """Block layers before the gates."""
    prior_layers: Layers = 2
    """Layers from h to the prior."""
    post_layers: SomeLayers = 1
    """Layers from h and tokens to the posterior."""
    core: Literal["gru"] = "gru"
    """What carries the past: a GRU in blocks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.deter % self.blocks:
            raise ConfigError(f"deter must be a multiple of blocks ({self.blocks}), but it is {self.deter}")

    @property
    def features(self) -> int:
        """F, width of what every head reads: h and z."""
        return self.deter + self.stoch * self.classes


@dataclass(frozen=True)
class HeadConfig(Section):
    """Size of one head."""

    layers: Layers = 1
    """Hidden layers."""
    units: Count = 64
    """Width of each."""


@dataclass(frozen=True)
class TwoHotConfig(HeadConfig):
    """Size of a head that predicts a number of unknown scale."""

    bins: Annotated[int, Range(3)] = 255
    """Exponentially spaced values over which the prediction is a distribution."""


@dataclass(frozen=True)
class PolicyConfig(HeadConfig):
    """Size of the policy and the spread of its continuous actions."""

    min_std: Positive = 0.1
    """Smallest standard deviation of a continuous action."""
    max_std: Positive = 1.0
    """Largest standard deviation of a continuous action."""


@dataclass(frozen=True)
class ActorCriticConfig(Section):
    """How behaviour is learned from the world model."""

    imag_length: Count = 15
    """H, steps of every imagined rollout."""
    imag_last: Natural = 0
    """K, imagine from the last K steps of every sequence; 0 means from all of them."""
    horizon: Annotated[float, Range(1, above=True), Traced()] = 333.0
    """Discount horizon in steps: the discount is 1 - 1/horizon."""
    discount_in_cont: bool = True
    """Whether the continue head predicts discounted probabilities, so that imagination needs no discount."""
    lam: Annotated[Weight, Traced()] = 0.95
    """Lambda of the returns: 0 is one-step, 1 Monte-Carlo."""
    replay_lam: Annotated[Weight, Traced()] = 0.95
    """Lambda of the returns of replayed steps."""
    entropy: Annotated[Scale, Traced()] = 3e-4
    """Weight of the policy's entropy."""
    unimix: Annotated[Share, Traced("policy_unimix")] = 0.01
    """Share of the uniform distribution in discrete policies; the paper has 1%, the reference code 0."""
    slow_rate: Annotated[Rate, Traced()] = 0.02
    """How far the slow critic moves towards the critic after an update."""
    slow_every: Annotated[Count, Traced()] = 1
    """Updates between two moves of the slow critic."""
    slow_reg: Annotated[Scale, Traced()] = 1.0
    """Weight of the slow critic's prediction as a target of the critic."""
    replay_slow_reg: Annotated[Scale, Traced()] = 1.0
    """The same in the loss on replayed steps."""
    slow_target: bool = False
    """Whether returns bootstrap from the slow critic instead of the critic."""
    return_rate: Annotated[Rate, Traced()] = 0.01
    """How fast the return range follows the batches."""
    return_low: Annotated[float, Range(0, 100), Traced()] = 5.0
    """Percentile at which the range of the returns begins."""
    return_high: Annotated[float, Range(0, 100), Traced()] = 95.0
    """Percentile at which it ends."""
    return_limit: Annotated[Positive, Traced()] = 1.0
    """Smallest range by which returns are divided."""
    replay_value: bool = True
    """Whether the critic also learns from the returns of replayed steps."""
    replay_value_grad: bool = True
    """Whether that loss also shapes the representation."""


@dataclass(frozen=True)
class LossConfig(Section):
    """Weight of each loss in the total."""

    rec: Annotated[Scale, Traced("rec_scale")] = 1.0
    """Every reconstructed observation key, and every loss rec/NAME of an objective of yours."""
    reward: Annotated[Scale, Traced("reward_scale")] = 1.0
    """Reward prediction."""
    cont: Annotated[Scale, Traced("cont_scale")] = 1.0
    """Prediction of whether the episode continues."""
    dyn: Annotated[Scale, Traced("dyn_scale")] = 1.0
    """The prior towards the posterior."""
    rep: Annotated[Scale, Traced("rep_scale")] = 0.1
    """The posterior towards the prior."""
    policy: Annotated[Scale, Traced("policy_scale")] = 1.0
    """The actor."""
    value: Annotated[Scale, Traced("value_scale")] = 1.0
    """The critic, in imagination."""
    replay_value: Annotated[Scale, Traced("replay_value_scale")] = 0.3
    """The critic, on replayed steps."""
    barlow: Annotated[Scale, Traced("barlow_scale")] = 0.05
    """Correlations of the tokens with what the latent says of them."""
    infonce: Annotated[Scale, Traced("infonce_scale")] = 1.0
    """Which of all tokens of the batch belong to a latent."""
    next_embedding: Annotated[Scale, Traced("next_embedding_scale")] = 1.0
    """Correlations of the next tokens with what a transformer expects."""
    cdp: Annotated[Scale, Traced("cdp_scale")] = 500.0
    """The angle between the tokens and what h expects."""
    sigreg: Annotated[Scale, Traced("sigreg_scale")] = 1.0
    """Prediction of projected tokens and their distance from a normal distribution."""
    visreg: Annotated[Scale, Traced("visreg_scale")] = 1.0
    """The same with the distance in three parts: centre, scale and shape."""
    value_equivalent: Annotated[Scale, Traced("value_equivalent_scale")] = 20.0
    """Prediction of the tokens of a slow encoder."""
    free_nats: Annotated[Scale, Traced()] = 1.0
    """KL below which dyn and rep have no gradient."""
    unimix: Annotated[Share, Traced()] = 0.01
    """Share of the uniform distribution in priors and posteriors."""
    reward_grad: bool = True
    """Whether reward prediction shapes the representation."""

    def weight(self, name: str) -> float:
        """What the loss of this name weighs; all reconstructions `rec/<key>` share one weight.

        The losses `probe/<key>` of a probe decoder weigh 1: they move nothing else, and the optimiser's step
        does not depend on the scale of a gradient.

        Raises:
          ConfigError: it has no weight.
        """
        weight = name.partition("/")[0]
        if weight == "probe":
            return 1.0
        if weight not in self.__dict__:
            raise ConfigError(
                f"the objective has a loss '{name}', but agent.loss has no weight for it: call it "
                f"'rec/{name}', which agent.loss.rec weighs"
            )
        return self.__dict__[weight]


@dataclass(frozen=True)
class OptimConfig(Section):
    """How gradients become parameter updates."""

    lr: Annotated[Scale, Traced()] = 4e-5
    """Learning rate after the warm-up."""
    warmup: Annotated[Natural, Traced()] = 1000
    """Updates over which the rate rises linearly from 0; the first update has rate 0."""
    schedule: Literal["const", "linear", "cosine"] = "const"
    """Shape of the rate after the warm-up; linear and cosine end at a tenth of `lr`."""
    anneal: Annotated[Natural, Traced()] = 0
    """Update at which a linear or cosine schedule reaches its end."""
    agc: Annotated[Scale, Traced()] = 0.3
    """Largest gradient norm of a tensor, relative to the norm of the tensor; 0 switches clipping off."""
    beta1: Annotated[Share, Traced()] = 0.9
    """Decay of the momentum."""
    beta2: Annotated[Share, Traced()] = 0.999
    """Decay of the running mean square."""
    eps: Annotated[Positive, Traced()] = 1e-20
    """Added to the root mean square before dividing by it."""
    weight_decay: Annotated[Scale, Traced()] = 0.0
    """Pull of kernels (not biases and scales) towards zero, times the learning rate."""
    factors: tuple[str, ...] = ()
    """What multiplies the rate of a module or a part of it, as encoder=0.5 or rssm.prior=0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.rate_factors
        if self.schedule != "const" and self.anneal <= self.warmup:
            raise ConfigError(
                f"anneal must be above warmup ({self.warmup}) for the schedule '{self.schedule}', "
                f"but it is {self.anneal}"
            )

    @property
    def rate_factors(self) -> dict[str, float]:
        """{path prefix of parameters: what multiplies their learning rate}.

        Raises:
          ConfigError: an entry is not path=number with a number of at least 0.
        """
        return _rate_factors(self.factors)


def _rate_factors(entries: tuple[str, ...]) -> dict[str, float]:
    factors: dict[str, float] = {}
    for entry in entries:
        path, _, text = entry.partition("=")
        factor = schema.parse_text(float, text.strip())
        is_number = isinstance(factor, int | float) and schema.is_finite(factor)
        if not (path.strip() and is_number and factor >= 0):
            raise ConfigError(f"factors needs entries like encoder=0.5, but one is {schema.shown(entry)}")
        factors[path.strip()] = float(factor)
    return factors


@dataclass(frozen=True)
class BarlowConfig(Section):
    """The objective barlow, and the loss of next_embedding."""

    redundancy: Annotated[Scale, Traced("barlow_redundancy")] = 5e-4
    """Weight of correlations between different tokens, times N/E for N rows and E tokens."""
    lambda_reference: bool = False
    """Without the factor N/E, as in the source, where that weight depends on the size of agent and batch."""


@dataclass(frozen=True)
class NextEmbeddingConfig(Section):
    """The transformer of the objective next_embedding."""

    layers: SomeLayers = 2
    """Blocks of attention and MLP."""
    units: Count = 64
    """Width of what goes through them (256 in the source)."""
    heads: Count = 4
    """Heads of attention, which share the width."""
    length: Count = 128
    """Steps of a sequence that have a position; at least `loop.batch_length`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.units % self.heads:
            raise ConfigError(f"units must be a multiple of heads ({self.heads}), but it is {self.units}")


@dataclass(frozen=True)
class CDPConfig(Section):
    """The objective cdp."""

    factors: tuple[str, ...] = ("encoder=0.15", "rssm=10", "objective=10")
    """What multiplies the rates of modules where this is the objective, below those of `agent.optim`: the
    encoder has to move slowly."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _rate_factors(self.factors)


@dataclass(frozen=True)
class SIGRegConfig(Section):
    """The objective sigreg."""

    width: Count = 64
    """Entries of a projected token."""
    slices: Count = 64
    """Random directions in which the distribution is compared with a normal one (1,024 in the source)."""
    weight: Annotated[Scale, Traced("sigreg_weight")] = 11.5
    """Of that comparison beside the prediction: 0.09 times the 128 rows of the source."""


@dataclass(frozen=True)
class VISRegConfig(Section):
    """The objective visreg."""

    width: Count = 64
    """Entries of a projected token."""
    slices: Count = 256
    """Random directions in which the shape is compared with a normal one (256 to 4,096 in the source)."""
    share: Annotated[Weight, Traced("visreg_share")] = 0.9
    """Of the total that is the comparison; the rest is the prediction."""


@dataclass(frozen=True)
class ValueEquivalentConfig(Section):
    """The objective value_equivalent."""

    rate: Annotated[Rate, Traced("target_rate")] = 0.01
    """How far the slow encoder moves towards the learned one after every update."""


@dataclass(frozen=True)
class AgentConfig(Section):
    """Everything about the agent, nothing about the world or the loop."""

    encoder: EncoderConfig = EncoderConfig()
    """From observations to tokens."""
    rssm: RSSMConfig = RSSMConfig()
    """The dynamics."""
    objective: Annotated[str, Named(OBJECTIVES)] = "reconstruction"
    """What the representation must predict: every observation (reconstruction), tokens of the encoder
    (barlow to value_equivalent, without a decoder), nothing (none, the control), what a class of yours
    says (my_module:MyObjective), or two of these (reconstruction+barlow)."""
    probe_decoder: bool = False
    """Whether an objective without a decoder gets one that only shows what the latent holds: it is trained
    beside the agent, moves nothing else and costs what a decoder costs."""
    barlow: BarlowConfig = BarlowConfig()
    """The objective barlow, and the loss of next_embedding."""
    next_embedding: NextEmbeddingConfig = NextEmbeddingConfig()
    """The objective next_embedding."""
    cdp: CDPConfig = CDPConfig()
    """The objective cdp."""
    sigreg: SIGRegConfig = SIGRegConfig()
    """The objective sigreg."""
    visreg: VISRegConfig = VISRegConfig()
    """The objective visreg."""
    value_equivalent: ValueEquivalentConfig = ValueEquivalentConfig()
    """The objective value_equivalent."""
    decoder: DecoderConfig = DecoderConfig()
    """From features back to observations, where they are reconstructed."""
    reward: TwoHotConfig = TwoHotConfig(layers=1)
    """The head that predicts rewards."""
    cont: HeadConfig = HeadConfig(layers=1)
    """The head that predicts whether the episode continues."""
    policy: PolicyConfig = PolicyConfig(layers=3)
    """The actor."""
    value: TwoHotConfig = TwoHotConfig(layers=3)
    """The critic."""
    value_ensemble: Annotated[int, Range(1, 64)] = 1
    """Critics in all; those beside the first learn as it does, move nothing else, and let planners doubt."""
    behavior: ActorCriticConfig = ActorCriticConfig()
    """How actor and critic learn."""
    loss: LossConfig = LossConfig()
    """Weights of the losses."""
    optim: OptimConfig = OptimConfig()
    """The optimiser."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of activations; auto is float32 on a CPU and bfloat16 elsewhere. Parameters and losses are float32."""

    @property
    def rate_factors(self) -> dict[str, float]:
        """{path prefix of parameters: what multiplies their learning rate}, of the objective and `optim`."""
        section = getattr(self, self.objective, None)
        return _rate_factors(getattr(section, "factors", ())) | self.optim.rate_factors

    @property
    def comparing(self) -> tuple[str, ...]:
        """Parts of the objective whose losses are, or may be, not those of single sequences."""
        return tuple(part for part in self.objective.split("+") if part not in SEPARATE)

    @property
    def unread(self) -> tuple[str, ...]:
        """Fields, or beginnings of fields, that only objectives read which this agent does not have."""
        parts = self.objective.split("+")
        if any(":" in part for part in parts):  # a class of a user's may read them all
            return ()
        absent = [name for name in DECODER_FREE if name not in parts]
        sections = [name for name in absent if name != "barlow" or "next_embedding" not in parts]
        return (*(f"agent.loss.{name}" for name in absent), *(f"agent.{name}." for name in sections))


TRACED = schema.traced(AgentConfig)
"""{short name: field of an `AgentConfig`} of the numbers that the members of a population may differ in."""


@dataclass(frozen=True)
class EnvConfig(Section):
    """The environment, besides its name."""

    obs: str = ""
    """Which observation, where the suite has several (`dreamer envs` lists them); empty for its default."""
    parallel: bool = False
    """Whether every copy of the environment runs in a process of its own."""
    levels: Annotated[int, Range(0, FIRST_TRAINING_SEED)] = 0
    """Training uses only this many different levels; 0 means a new one every episode."""
    lives: Literal["game", "terminal-and-go-on", "terminal-and-restart"] = "game"
    """Whether a lost life ends an episode in training, and what follows; evaluations play whole games."""
    engine: Literal["", "envpool"] = ""
    """In training EnvPool steps all copies, in threads; seeds are then of copies, not of episodes."""
    pixels: tuple[str, ...] = ()
    """Keys of observations to read as pictures, where their bounds leave that open (host tasks)."""
    categories: tuple[str, ...] = ()
    """Keys of observations to read as categories, counted from the lowest value (host tasks)."""
    kwargs: Annotated[str, Arguments()] = ""
    """Arguments of the environment, as JSON: '{"is_slippery": false}'; in a file a table."""
    max_episode_steps: Natural = 0
    """Every episode is truncated after this many steps, without termination; 0 leaves it to the task."""
    wrappers: tuple[str, ...] = ()
    """Callables env -> env that wrap it one after the other, as my_module:wrap."""
    distractor: Literal["", "noise"] = ""
    """Noise that moves in the background of pictures, wherever the task is opened; empty for none."""
    timeout: Scale = 0.0
    """Seconds that a copy may take for a step or reset, else the run ends; 0: no limit (host tasks)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.wrappers:
            if not all(name.partition(":")):
                raise ConfigError(f"wrappers must be named as my_module:wrap, but one is '{name}'")

    @property
    def training(self) -> dict[str, Any]:
        """What is otherwise in training than in evaluations: keywords of `envs.make` and `make_jax`."""
        return {"levels": self.levels, "lives": self.lives, "engine": self.engine}

    @property
    def copies(self) -> dict[str, Any]:
        """How its copies are stepped on the host: keywords of `envs.make`."""
        return {"parallel": self.parallel, "timeout": self.timeout}

    @property
    def world(self) -> dict[str, Any]:
        """What defines the environment wherever it is created: the keywords of `envs.make` and `make_jax`."""
        return {
            "obs": self.obs,
            "pixels": self.pixels,
            "categories": self.categories,
            "kwargs": Arguments.read(self.kwargs),
            "max_episode_steps": self.max_episode_steps,
            "wrappers": self.wrappers,
            "distractor": self.distractor,
        }

    @property
    def changed(self) -> dict[str, Any]:
        """Of all keywords of `envs.make` those that are not as by default."""
        every = lambda cfg: {**cfg.world, **cfg.copies, **cfg.training}
        default = every(EnvConfig())
        return {name: value for name, value in every(self).items() if value != default[name]}


@dataclass(frozen=True)
class LoopConfig(Section):
    """How acting and learning take turns."""

    num_envs: Count = 16
    """Copies of the environment, stepped together."""
    actor: str = "sampled"
    """What acts while it trains: the policy (sampled or greedy), random, or a planner with its options, as
    mppi:horizon=3,samples=128; a run never changes it."""
    train_ratio: Positive = 32.0
    """Replayed steps per environment step."""
    batch_size: Count = 16
    """B, sequences in a batch."""
    batch_length: Annotated[int, Range(2)] = 64
    """T, steps of each sequence."""
    prefill: Natural = 1024
    """Environment steps before the first update."""
    updates: Natural = 0
    """Updates after which a run ends; 0: only steps count. On the device the last round is completed."""
    accumulate: Count = 1
    """Parts of a batch whose gradients are computed one after the other and averaged: the same update up to
    rounding, with the activations of one part in memory and one more pass forward."""
    devices: Natural = 0
    """Devices that share the fused loop, if they can take equal parts; 0 means every accelerator, and
    of a CPU a core for every member of a population (with 1 a member is bitwise the single run)."""
    mesh: str = ""
    """The devices of one agent as a mesh, as data=4,fsdp=2: batches, and environments of the fused loop, are
    split over all of them, large parameters and their optimiser over those of `fsdp`; empty: `devices`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        size, part = math.prod(self.mesh_shape.values()), f"a batch of {self.batch_size} sequences"
        if self.batch_size % self.accumulate:
            raise ConfigError(f"accumulate must divide {part}, but it is {self.accumulate}")
        if not self.mesh:
            return
        if self.accumulate > 1:
            part = f"each of the {self.accumulate} parts of {part}"
        if self.batch_size // self.accumulate % size:
            raise ConfigError(f"mesh has {size} devices, which cannot share {part} equally: {self.mesh}")
        if self.devices not in (0, size):
            raise ConfigError(
                f"mesh {self.mesh} has {size} devices, but devices is {self.devices}: leave one of them out"
            )

    @property
    def mesh_shape(self) -> dict[str, int]:
        """{axis: devices along it} of the mesh, in the order of `MESH_AXES`; {} without one.

        Raises:
          ConfigError: an entry is not axis=devices, or there is no such axis.
        """
        shape: dict[str, int] = {}
        for entry in filter(None, self.mesh.split(",")):
            axis, _, text = (part.strip() for part in entry.partition("="))
            if axis not in MESH_AXES or axis in shape:
                why = "twice" if axis in shape else "which is no axis"
                raise ConfigError(
                    f"mesh names {schema.shown(axis)}, {why}: its axes are {' and '.join(MESH_AXES)}, as in "
                    "data=4,fsdp=2"
                )
            if not (text.isascii() and text.isdigit() and int(text)):
                raise ConfigError(
                    f"mesh needs a number of devices for {axis}, as {axis}=4, but it is {schema.shown(text)}"
                )
            shape[axis] = int(text)
        return {axis: shape.get(axis, 1) for axis in MESH_AXES} if shape else {}


@dataclass(frozen=True)
class ReplayConfig(Section):
    """The replay buffer."""

    capacity: Count = 5_000_000
    """Steps kept, over all environments together; older ones are overwritten."""
    online: bool = True
    """Whether every fresh sequence is trained on once before sampling uniformly."""


class Goal(NamedTuple):
    """What an evaluation must reach for a run to stop early."""

    metric: Literal["success", "return"]
    """What is averaged over the episodes of a check."""
    target: float
    """The least mean that ends the run."""

    @classmethod
    def parse(cls, text: str) -> "Goal":
        """From text as success=0.95 or return=450.

        Raises:
          ConfigError: the text is invalid, or the success rate is out of range.
        """
        name, _, value = text.partition("=")
        number = schema.parse_text(float, value.strip())
        target = number if isinstance(number, int | float) and schema.is_finite(number) else math.nan
        if name.strip() == "success" and 0 < target <= 1:
            return cls("success", target)
        if name.strip() == "return" and math.isfinite(target):
            return cls("return", target)
        raise ConfigError(
            f"until must be success=RATE (above 0, at most 1) or return=NUMBER, but it is '{text}'"
        )


@dataclass(frozen=True)
class EvalConfig(Section):
    """How the agent is judged, on seeds that training never sees."""

    every: Natural = 0
    """Environment steps between evaluations during training; 0 evaluates only at the end."""
    every_updates: Natural = 0
    """Updates between evaluations during training; 0 for none by this clock."""
    during: Count = 20
    """Episodes of each evaluation during training."""
    episodes: Natural = 100
    """Episodes of the evaluation at the end, greedy and again sampled; 0 skips it."""
    seed: Seed = 0
    """Seed of the first evaluation episode; the others follow it."""
    until_every: Count = 2_000
    """Environment steps between two checks of `until`."""
    until_episodes: Count = 100
    """Episodes of each check, on seeds that nothing else uses."""
    max_steps: Natural = 0
    """Longer evaluation episodes are cut there; 0 is ten times the longest of training, at least 10,000."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seeds(self.seed, max(self.episodes, self.during))


def check_seeds(seed: int, episodes: int) -> None:
    """Raise a ConfigError unless that many evaluation seeds from `seed` on lie below those of training."""
    if seed + episodes > FIRST_TRAINING_SEED:
        raise ConfigError(
            f"seed must leave room for {episodes} episodes below the training "
            f"seeds, which start at {FIRST_TRAINING_SEED}, but it is {seed}"
        )


@dataclass(frozen=True)
class ReportConfig(Section):
    """The report card of the world model, and the page about the run."""

    every: Natural = 0
    """Environment steps between reports during training; 0 makes one only at the end."""
    every_updates: Natural = 0
    """Updates between reports during training; 0 for none by this clock."""
    episodes: Natural = 32
    """Episodes that a report plays and analyses; 0 skips reports."""
    context: Count = 4
    """Steps that the model sees before it must predict without looking."""
    horizon: Count = 12
    """Steps that it then predicts."""
    max_steps: Count = 500
    """Longer episodes are cut there."""


@dataclass(frozen=True)
class LogConfig(Section):
    """What a run logs, and where."""

    every: Positive = 5.0
    """Seconds between two rows of metrics."""
    tensorboard: bool = True
    """Whether TensorBoard events are written."""
    wandb: bool = False
    """Whether metrics also go to Weights & Biases (needs the extra `wandb`)."""
    wandb_project: str = "dreamer"
    """The project there."""
    wandb_offline: bool = False
    """Whether they stay in the folder of the run, for `wandb sync`; WANDB_MODE=offline does the same."""
    mlflow: bool = False
    """Whether metrics also go to MLflow (needs the extra `mlflow`), where MLFLOW_TRACKING_URI says."""
    mlflow_experiment: str = "dreamer"
    """The experiment there."""


@dataclass(frozen=True)
class CheckpointConfig(Section):
    """When and how many checkpoints are kept."""

    every: Positive = 60.0
    """Seconds between two checkpoints: the most that a crash can cost."""
    keep: Count = 2
    """Checkpoints kept; the older ones are the fallback of the newest."""


@dataclass(frozen=True)
class PopulationConfig(Section):
    """Agents that are trained together in one program: every combination of what varies, with every seed."""

    seeds: Count = 1
    """Seeds, from that of the run on."""
    vary: tuple[str, ...] = ()
    """Numbers of the agent with the values they take, as lr=1e-4,3e-4 (path or short name)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.grid()

    def grid(self) -> dict[str, tuple[float, ...]]:
        """{path in an `AgentConfig`: values} of what varies.

        Raises:
          ConfigError: an entry is not name=value,value, or there is no such number.
        """
        grid: dict[str, tuple[float, ...]] = {}
        for entry in self.vary:
            name, equals, text = entry.partition("=")
            path = TRACED.get(name, name)
            if path not in TRACED.values():
                close = " or ".join(schema.closest(name, [*TRACED, *TRACED.values()])) or ", ".join(TRACED)
                raise ConfigError(
                    f"vary names '{name}', which no member can differ in; did you mean {close}?"
                )
            values = [schema.parse_text(float, value.strip()) for value in text.split(",")]
            if not all(isinstance(value, int | float) and schema.is_finite(value) for value in values):
                raise ConfigError(f"vary needs entries like lr=1e-4,3e-4, but one is {schema.shown(entry)}")
            grid[path] = tuple(map(float, values))
        return grid

    @property
    def is_one(self) -> bool:
        """Whether it is a single agent."""
        return self.seeds == 1 and not self.vary


@dataclass(frozen=True)
class StartConfig(Section):
    """What a new run starts from, where not all of its parameters are fresh."""

    run: str = ""
    """Another run (RUN@UPDATES: one of its checkpoints) or exported file, also as --from; empty for none."""
    modules: tuple[str, ...] = ()
    """Modules whose parameters come from there, as encoder,rssm; also as --modules; empty takes all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.modules and not self.run:
            raise ConfigError(
                f"modules are for a run to start from (--from), but there is none: {', '.join(self.modules)}"
            )


@dataclass(frozen=True)
class Config(Section):
    """A whole run."""

    task: str
    """What to learn, as suite:name."""
    steps: Count
    """Environment steps to take, at most."""
    until: str = ""
    """Stop earlier, once a check reaches success=0.95 or return=450, say; empty takes all steps."""
    seed: Annotated[int, Range(0, 2**31, below=True)] = 0
    """Seed of all randomness in training."""
    preset: str = ""
    """Name of the preset that this configuration started from."""
    agent: AgentConfig = AgentConfig()
    """The agent."""
    env: EnvConfig = EnvConfig()
    """The environment."""
    loop: LoopConfig = LoopConfig()
    """Acting and learning."""
    replay: ReplayConfig = ReplayConfig()
    """The replay buffer."""
    start: StartConfig = StartConfig()
    """Whether it starts from parts of another run."""
    population: PopulationConfig = PopulationConfig()
    """Whether many agents are trained at once, and in what they differ."""
    eval: EvalConfig = EvalConfig()
    """The evaluation."""
    report: ReportConfig = ReportConfig()
    """The report."""
    log: LogConfig = LogConfig()
    """The logs."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """The checkpoints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.goal
        needed = self.loop.num_envs * (self.loop.batch_length + 1)
        if self.replay.capacity < needed:
            raise ConfigError(
                f"replay.capacity must hold one sequence of every environment, {needed} steps, "
                f"but it is {self.replay.capacity}"
            )
        if self.loop.mesh and not self.population.is_one:
            raise ConfigError(
                "loop.mesh divides one agent over devices, but this is a population: leave one of them out "
                "(loop.devices divides its members)"
            )
        if self.loop.accumulate > 1 and (parts := self.agent.comparing):
            raise ConfigError(
                f"loop.accumulate needs losses of single sequences, but the objective {parts[0]} may compare "
                "those of a batch with each other: leave it at 1"
            )
        length = self.agent.next_embedding.length
        if "next_embedding" in self.agent.objective.split("+") and length < self.loop.batch_length:
            raise ConfigError(
                f"agent.next_embedding.length must be at least loop.batch_length ({self.loop.batch_length}), "
                f"but it is {length}"
            )

    @property
    def goal(self) -> Goal | None:
        """The goal in `until`, None where it is empty.

        Raises:
          ConfigError: it is invalid.
        """
        return Goal.parse(self.until) if self.until else None


def changes(old: Config, new: Config) -> list[tuple[str, Any, Any]]:
    """Where two configurations differ, as `schema.diff`, without what neither agent reads."""
    unread = tuple(set(old.agent.unread) & set(new.agent.unread))
    return [row for row in schema.diff(old, new) if not row[0].startswith(unread)]


def from_dict(values: Mapping[str, Any], base: Config | None = None) -> Config:
    """A configuration from nested dictionaries; what they leave out is as in `base` (None: the defaults).

    Raises:
      ConfigError: for an unknown field (with close ones), a wrong type or a value out of range.
    """
    return schema.build(Config, values, base)


def load_toml(path: str | Path, base: Config | None = None) -> Config:
    """Read a configuration, or the parts of one that override `base`.

    Raises:
      ConfigError: naming the file, as in `from_dict`, or if it cannot be read.
    """
    return schema.load_toml(Config, path, base)
