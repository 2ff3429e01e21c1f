#!/bin/sh
# mctx 0.0.71: its Gumbel MuZero search cannot run under JAX's check for keys that are used twice.
#
# With `jax_debug_key_reuse`, which finds keys that are consumed more than once, `gumbel_muzero_policy` raises
# KeyReuseError ("In select_n, argument ... is already consumed"), though the functions that are searched use no
# key at all. So whoever tests with that check must switch it off around the search.
#
# Seen on 2026-11-30 with Python 3.11.7, jax 0.10.2, chex 0.1.92:
#   without the check  (2,)
#   with the check     KeyReuseError
#
# Ends with 1 where that is no longer so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q mctx==0.0.71 jax==0.10.2 chex==0.1.92
cd "$folder"
"$folder/venv/bin/python" - <<'EOF'
import platform
import sys
from importlib.metadata import version

import jax
import jax.numpy as jnp
import mctx

print(f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in ("mctx", "jax", "chex")))
nothing = dict(prior_logits=jnp.zeros((2, 3)), value=jnp.zeros(2))


def recurrent(params, key, action, embedding):
    return mctx.RecurrentFnOutput(reward=jnp.zeros(2), discount=jnp.ones(2), **nothing), embedding


def search(key):
    root = mctx.RootFnOutput(embedding=jnp.zeros(2), **nothing)
    return mctx.gumbel_muzero_policy((), key, root, recurrent, num_simulations=4).action


print("without the check ", jax.jit(search)(jax.random.key(0)).shape)
jax.config.update("jax_debug_key_reuse", True)
jax.clear_caches()
try:
    jax.jit(search)(jax.random.key(0))
    seen = "nothing raised"
except jax.errors.KeyReuseError as error:
    seen = type(error).__name__
print("with the check    ", seen)
sys.exit(int(seen != "KeyReuseError"))
EOF
echo "as described"
