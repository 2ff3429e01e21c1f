"""`dreamer imagine`: behaviour that is learned in dreams alone, with costs a person has added."""
