"""The seam "how the agent chooses": an actor and a critic that learn in imagination."""
