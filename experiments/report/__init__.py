"""What a trained agent's world model is like, as numbers, as pictures and as one page."""
