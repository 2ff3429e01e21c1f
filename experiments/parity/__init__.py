"""Do two implementations learn equally fast? danijar/dreamerv3, as published, and this one: equal settings,
steps and seeds, in the same environments.

python -m experiments.parity --reference DREAMERV3 --python VENV/bin/python --task gymnasium:CartPole-v1 \\
    --seeds 5 --steps 10000 --out parity

The reference runs in its own Python through `launch.py`, its files as they are; how to install it is in
`experiments/parity/README.md`.
"""
