"""Sweeps: many trials of one file, on one machine or many, that end in a configuration to trust."""
