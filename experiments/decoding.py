"""How decoded latents are labelled, and what is said where nothing decodes them.

Where the objective has no decoder of its own, `agent.probe_decoder` may have trained one beside the agent. It
shows what the latents hold; nothing made the agent predict that.
"""

from dreamer.agent import Agent

PROBE = "seen through a probe"


def caption(agent: Agent, text: str) -> str:
    """The caption of a picture that was decoded."""
    return f"{text}, {PROBE}" if agent.decoder == "probe" else text


def nothing_decodes(objective: str, so: str) -> str:
    """The sentence about an agent with this objective and without any decoder.

    Args:
      so: what that rules out.
    """
    return (
        f"the objective '{objective}' of this agent predicts no observations, so {so}: train with "
        "--agent.probe_decoder true, which adds a decoder that only shows what the latents hold, or with "
        "--agent.objective reconstruction"
    )
