"""Benchmarks: many tasks and seeds by name, their scores, and what was published on them."""
