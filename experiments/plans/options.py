"""Options of the report on planning, without heavy imports."""

from dataclasses import dataclass

from dreamer.config import Count, Natural, Seed, check_seeds
from experiments.costs.options import CostOptions
from experiments.names import joined_options


@dataclass(frozen=True)
class PlanReportOptions(CostOptions):
    """Which actors of a run play the same episodes; those that plan do so with the costs."""

    actors: tuple[str, ...] = ()
    """Actors, as greedy mppi mppi:horizon=3,proposals=0; the others are compared with the first one (default:
    greedy, sampled, and the planners for the run's actions, also without the policy's proposals)."""
    imagined: str = ""
    """File of an agent that dreamer imagine wrote: its greedy policy plays too, which learned in dreams what
    planners search for at every step."""
    episodes: Count = 100
    """Episodes that each of them plays, all on the same seeds."""
    seed: Seed = 0
    """Seed of the first episode; the others follow it."""
    num_envs: Natural = 0
    """Copies of the environment, stepped together; 0 means 16 on the host and 256 on the device."""
    max_steps: Natural = 0
    """Episodes are cut after this many steps; 0 uses the setting of the run (eval.max_steps)."""
    out: str = ""
    """Folder of page, table and numbers; actors that are finished there are not played again (default: plans
    in the folder of the run)."""
    trust: bool = False
    """Run code that lies in the folder of a run or a sweep, where its files ask for it."""
    json: bool = False
    """Print the results as one JSON object, and nothing else on standard output."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "actors", joined_options(self.actors))
        check_seeds(self.seed, self.episodes)
