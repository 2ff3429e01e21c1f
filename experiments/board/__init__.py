"""`dreamer board`: one local page over everything that lies below a folder."""
