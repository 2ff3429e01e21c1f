"""What `dreamer compare` takes, without anything heavy."""

from dataclasses import dataclass
from typing import Annotated, Literal

from dreamer.config import Count, Natural, Seed, check_seeds
from dreamer.schema import ConfigError, Range, Section
from envs.rollout import LONGEST
from experiments.names import joined_options

Amount = Annotated[float, Range(0)]


@dataclass(frozen=True)
class CompareOptions(Section):
    """Which agents play what, and what it may cost."""

    task: tuple[str, ...] = ()
    """Tasks, as suite:name; the flag can be given several times."""
    agents: tuple[str, ...] = ()
    """Of random, scripted, ppo, ppo:FOLDER, run:FOLDER, run:FOLDER@ACTOR as run:FOLDER@sampled, llm:MODEL,
    llm:local; the first is the reference."""
    episodes: Count = 50
    """Episodes of each agent on each task; all play the same seeds."""
    seed: Seed = 0
    """Seed of the first episode; the others follow it."""
    out: str = "comparison"
    """Folder of transcripts, results and report; the same command resumes there."""
    max_steps: Natural = 0
    """Every episode ends after so many steps; 0 leaves it to the task, up to 10,000."""
    concurrency: Count = 4
    """Episodes that a language model plays at a time."""
    ppo_steps: Natural = 0
    """Environment steps that ppo is trained for on each task; 0 as its preset says."""
    llm_base_url: str = ""
    """Where the language model is, as http://localhost:8000/v1 (default: the variable OPENAI_BASE_URL)."""
    llm_api_key_env: str = ""
    """Environment variable that holds the key; none for a server that needs none (default: the provider's,
    as OPENAI_API_KEY, which goes to that provider and to servers on this machine only)."""
    llm_plain_http: bool = False
    """Let the key go over plain http to another machine, where it can be read on the way."""
    llm_api: Literal["openai", "anthropic"] = "openai"
    """Which language the server speaks."""
    llm_mode: Literal["zero-shot", "few-shot", "chain-of-thought"] = "zero-shot"
    """How the model is asked."""
    llm_privileged: bool = False
    """Tell the model the whole world instead of what the agent sees of it; the report says so."""
    llm_shots: Count = 12
    """Steps of the scripted player that few-shot shows."""
    llm_history: Natural = 16
    """Most of its own past steps that a model is shown."""
    llm_notes: Natural = 0
    """Lessons of its earlier episodes that a model is shown; it then plays one episode after the other."""
    llm_temperature: Annotated[float, Range(-1)] = 0.0
    """Below 0 none is sent, as models that reason ask for."""
    llm_output_tokens: Count = 512
    """Most tokens of one reply, hidden reasoning included."""
    llm_cache: Literal["on", "off", "replay"] = "on"
    """Keep every reply in the folder so that none is paid twice; replay asks for no new one."""
    max_usd: Amount = 0.0
    """Language models may cost so much; needs their prices; 0 is no limit."""
    max_tokens: Natural = 0
    """Tokens that they may read and write; 0 is no limit."""
    max_hours: Amount = 0.0
    """Hours after which they are asked nothing more and no reply is waited for; 0 is no limit."""
    prices: str = ""
    """TOML file with prices that go over those that are known."""
    watts: Amount = 0.0
    """Of this machine while it plays and trains, for an estimate of energy; 0: none."""
    usd_per_hour: Amount = 0.0
    """Price of this machine, for what training costs; 0: not computed."""
    trust: bool = False
    """Run code that lies in the folder of a run or a sweep, where its files ask for it."""
    json: bool = False
    """Print the results as one JSON object, and nothing else on standard output."""

    @property
    def limit(self) -> int:
        """Steps after which an episode is cut short."""
        return self.max_steps or LONGEST

    @property
    def seeds(self) -> range:
        """Of all episodes."""
        return range(self.seed, self.seed + self.episodes)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "agents", joined_options(self.agents))
        check_seeds(self.seed, self.episodes)

    def check(self) -> None:
        """Raise a ConfigError unless there are tasks and agents to play them."""
        for name, example in (("task", "minigrid:Empty-5x5"), ("agents", "random scripted")):
            given = getattr(self, name)
            if not given:
                raise ConfigError(f"{name} is missing, as in --{name} {example}")
            double = next((x for x in given if given.count(x) > 1), None)
            if double is not None:
                raise ConfigError(f"{name} has '{double}' twice; once is enough")
