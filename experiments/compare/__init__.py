"""All agents, on the same episodes: what they reached, and what it cost."""
