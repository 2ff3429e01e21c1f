"""Reports on the world model of a trained agent: numbers, figures and a page."""
