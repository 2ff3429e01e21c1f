"""Runs: their folders, what trains in them, and how they end."""
