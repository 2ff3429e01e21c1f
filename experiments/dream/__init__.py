"""A learned world model in the place of an environment; `dreamer.gym` is its public name."""
