"""Recurrent PPO: the model-free learner that a Dreamer is measured against."""
