"""The comparison of objectives at an equal budget, as one command."""
