#!/bin/sh
# bsuite 0.3.6 with pandas 2 or 3: the results of deep_sea and deep_sea_stochastic cannot be scored.
#
# bsuite asks for pandas without a bound; its analysis of the two experiments calls Series.append, which pandas 2.0
# removed. Recording works and the other experiments score, so it shows only after the runs: one of the two in a
# results folder, and `bsuite_score` of the whole folder fails. What helps: scoring the other experiments apart; with
# pandas 1.5.3 and numpy 1.26.4 deep_sea scores.
#
# Recorded below: 20 episodes each of a random player, with bsuite's CSV recorder, scored one by one.
#
# Seen on 2026-11-30 with Python 3.11.7, bsuite 0.3.6, pandas 3.1.1:
#   bandit               score 0.0
#   catch                score 0.06250000000000006
#   deep_sea             AttributeError: 'Series' object has no attribute 'append'
#   deep_sea_stochastic  AttributeError: 'Series' object has no attribute 'append'
#   memory_len           score 0.0
#   umbrella_length      score 0.0
#   all six              AttributeError: 'Series' object has no attribute 'append'
#
# Ends with 1 where that is no longer so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q bsuite==0.3.6 pandas==3.1.1 numpy==2.4.6 plotnine==0.15.9 scikit-image==0.26.0
cd "$folder"
"$folder/venv/bin/python" - <<'END'
import contextlib
import io
import platform
import sys
from importlib.metadata import version

import bsuite
import numpy as np
from bsuite.experiments import summary_analysis
from bsuite.logging import csv_load

rng = np.random.default_rng(0)
names = ["bandit", "catch", "deep_sea", "deep_sea_stochastic", "memory_len", "umbrella_length"]
quiet = contextlib.redirect_stdout(io.StringIO())
for name in names:
    with quiet:
        env = bsuite.load_and_record_to_csv(f"{name}/0", results_dir="results")
    for _ in range(20):
        step = env.reset()
        while not step.last():
            step = env.step(rng.integers(env.action_spec().num_values))


def score(frame):
    try:
        return f"score {summary_analysis.bsuite_score(frame).score.mean()}"
    except AttributeError as error:
        return f"AttributeError: {error}"


print(f"Python {platform.python_version()}, bsuite {version('bsuite')}, pandas {version('pandas')}")
results, _ = csv_load.load_bsuite("results")
answers = {name: score(results[results.bsuite_env == name]) for name in names} | {"all six": score(results)}
for name, answer in answers.items():
    print(f"{name:20} {answer}")
failed = {name for name, answer in answers.items() if "no attribute 'append'" in answer}
sys.exit(int(failed != {"deep_sea", "deep_sea_stochastic", "all six"}))
END
echo "as described"
