"""Costs and goals that a command names: read, checked, and added up over episodes."""
