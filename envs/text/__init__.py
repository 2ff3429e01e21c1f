"""Text worlds: tasks told and played in words, for language models and people."""

from envs.text.answers import Answer, parse
from envs.text.make import text_world
from envs.text.world import Text, TextWorld

__all__ = ["Answer", "Text", "TextWorld", "parse", "text_world"]
