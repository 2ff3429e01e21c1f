"""The tables of all rules, in the order in which to act on what they find.

CAUSES      experience and settings with which nothing is learned
SYMPTOMS    what was learned badly; once there is a cause, it may be a consequence of that
JUDGING     how the agent is judged, also one that learned
"""

from __future__ import annotations

from experiments.diagnosis import experience, judging, learning, settings
from experiments.diagnosis.finding import Rule
from experiments.diagnosis.summary import Outcome

ANY: tuple[Outcome, ...] = ("learned", "improved", "not learned", "unclear")
EARLY: tuple[Outcome, ...] = ("unclear",)
JUDGED: tuple[Outcome, ...] = ("learned", "improved", "not learned")
LACKING: tuple[Outcome, ...] = ("improved", "not learned")
FLAT: tuple[Outcome, ...] = ("not learned",)

CAUSES = (
    # Whether there is anything to learn from.
    Rule(experience.not_finite, ANY, of_ppo=True),
    Rule(experience.no_update, EARLY, of_ppo=True),
    Rule(experience.no_episode, EARLY, of_ppo=True),
    Rule(settings.loss_off, LACKING),
    Rule(experience.constant_return, (*FLAT, *EARLY), of_ppo=True),
    Rule(learning.collapsed_tokens, (*LACKING, *EARLY)),
    Rule(experience.few_episodes, EARLY, of_ppo=True),
    # What the agent made of it.
    Rule(experience.avoids_ending, LACKING, of_ppo=True),
    Rule(experience.forgot, JUDGED, of_ppo=True),
    Rule(experience.rare_reward, FLAT, of_ppo=True),
    # Settings that rule learning out.
    Rule(settings.prefill, LACKING),
    Rule(settings.train_ratio, LACKING),
    Rule(settings.warmup, LACKING),
    Rule(settings.low_rate, LACKING),
    Rule(settings.high_rate, LACKING),
    Rule(settings.entropy_weight, LACKING),
    Rule(settings.discount_reach, LACKING),
    Rule(settings.few_updates, LACKING),
    Rule(settings.reward_scale, FLAT),
)
SYMPTOMS = (
    # The world model, then critic and policy.
    Rule(learning.collapsed_latents, LACKING),
    Rule(learning.world_model, LACKING),
    Rule(learning.ignored_actions, LACKING),
    Rule(learning.reward_model, LACKING),
    Rule(learning.endings_model, LACKING),
    Rule(learning.critic, LACKING),
    Rule(learning.entropy_collapsed, LACKING),
    Rule(learning.entropy_never_fell, FLAT),
    Rule(settings.imagination_reach, LACKING),
    Rule(settings.sequence_reach, FLAT),
    Rule(learning.clipped_gradients, LACKING),
    Rule(learning.ppo_steps, LACKING, of_ppo=True, of_dreamer=False),
    Rule(learning.ppo_critic, LACKING, of_ppo=True, of_dreamer=False),
)
JUDGING = (
    Rule(judging.greedy_differs, JUDGED),
    Rule(judging.generalisation, JUDGED),
    Rule(judging.still_rising, JUDGED, of_ppo=True),
)
RULES = (*CAUSES, *SYMPTOMS, *JUDGING)
