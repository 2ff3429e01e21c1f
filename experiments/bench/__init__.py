"""How fast this machine learns and acts."""
