"""Playing with the agents of a run during training and at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments import evaluate
from experiments.training.goal import Until, reached, seeds

if TYPE_CHECKING:
    from dreamer.logger import Logger
    from dreamer.loops.clocks import Progress
    from dreamer.player import Player
    from experiments.training.folder import RunFolder
    from experiments.training.workspace import Workspace


class Evaluator:
    """Plays with a player in the worlds of evaluation, and logs the summary.

    Args:
      folder: of the run, which has the evaluation settings.
      workspace: has the worlds.
      until: records which agents have reached it.
    """

    def __init__(self, folder: RunFolder, workspace: Workspace, until: Until):
        self.folder, self.workspace, self.until = folder, workspace, until

    @property
    def step_limit(self) -> int:
        """Steps after which an episode is cut short."""
        return evaluate.step_limit(self.folder.cfg.eval.max_steps, self.folder.logger.longest_episode)

    def play(self, player: Player, logger: Logger, episodes: int, *, actor: str) -> dict[str, Any]:
        """Play episodes and summarize them."""
        world, seed = self.workspace.evaluation_world(episodes), self.folder.cfg.eval.seed
        result = evaluate.play(player, world, episodes, seed, self.step_limit, self.folder.notice)
        logger.metrics(evaluate.metrics(result, actor))
        return result

    def check(self, player: Player, logger: Logger, progress: Progress, member: int = 0) -> None:
        """Check whether a player has reached `until`."""
        goal, asked = self.until.goal, self.folder.cfg.eval
        assert goal is not None
        number, episodes = progress.env_steps // asked.until_every, asked.until_episodes
        world = self.workspace.evaluation_world(episodes)
        is_reached, mean = reached(goal, player, world, seeds(number, episodes), self.step_limit)
        logger.metrics({f"until/{goal.metric}": mean})
        if is_reached:
            self.until.reach(member, progress, self.folder.logger.seconds)
            self.folder.forget_save()  # a checkpoint of these steps, made before the check, lacks its outcome
