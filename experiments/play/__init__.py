"""Play in the dream: a person drives an agent's world model, beside the world itself."""
