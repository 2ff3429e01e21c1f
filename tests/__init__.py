"""Tests of dreamer, envs and experiments; a package, as some that suites bring have a folder `tests`, too."""
