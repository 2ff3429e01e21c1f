"""Faults made on purpose, as a program: `python -m tests.faults` prints and keeps the table of what holds."""
