"""Runs: their folders, training loops, and results."""
