#!/bin/sh
# Compare a trained agent with three others on the same episodes: equal seeds, equal limits, one report.
#
#   python examples/train.py      leaves runs/example
#   sh examples/compare.sh        writes comparison/report.html; killed, the same command resumes it
#
# On one core, after 50 s: run, ppo (150,000 steps) and scripted 50 of 50, with returns of 0.96, 0.81 and 0.96;
# random 1 of 50.
#
# Options of `dreamer compare` may follow: sh examples/compare.sh --episodes 200 --out runs/compared
#
#   run:FOLDER    the agent of a run; the first one named is what the others are compared with
#   ppo           a recurrent PPO, trained first on each task (--ppo-steps; its preset takes 500,000)
#   scripted      a planner that knows the rules: how good one can be
#   random        uniform actions: how easy the task is
#
# A language model is one more name, and needs no change of anything else. It is told in words exactly what the
# agent sees; every decision is kept, and nothing is paid twice:
#
#   export OPENAI_API_KEY=...
#   sh examples/compare.sh --agents run:runs/example scripted llm:gpt-5-mini --max-usd 2 --out runs/with-llm
#
# A small one that runs here, without a key: pip install '.[llm-local]' && dreamer llm install, then llm:local.

exec dreamer compare \
  --task minigrid:DoorKey-5x5 \
  --agents run:runs/example ppo scripted random \
  --episodes 50 --ppo-steps 150000 "$@"
