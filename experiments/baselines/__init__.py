"""Players to compare an agent with."""
