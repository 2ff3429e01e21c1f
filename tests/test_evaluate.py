"""What episodes say together, of unseen worlds and of those of training, for people and for programs."""

import json
from pathlib import Path

import pytest

import dreamer
import envs
from dreamer.config import Config, EnvConfig, EvalConfig
from envs import gridworld
from envs.api import FIRST_TRAINING_SEED
from envs.rollout import Episode, Random
from experiments import cli, evaluate

KEYS = {
    *("episodes", "seed", "success_rate", "success_interval", "return_mean", "return_interval"),
    *("return_iqm", "length_mean", "truncated_by_limit", "step_limit"),
}
ON_LEVELS = {
    *("train_episodes", "train_success_rate", "train_return_mean", "train_truncated_by_limit"),
    *("generalisation_gap", "generalisation_interval"),
}


def episodes(successes, returns):
    pairs = zip(successes, returns, strict=True)
    return [
        Episode(seed=i, return_=r, length=3, success=s, discount=0.0, seconds=0.1)
        for i, (s, r) in enumerate(pairs)
    ]


def test_summary_without_reported_success_has_no_success_rate():
    result = evaluate.summary(episodes([None, None], [1.0, 2.0]))
    assert result["success_rate"] is None and result["success_interval"] is None
    assert result["return_mean"] == 1.5
    assert "success" not in evaluate.sentence(result)


def test_summary_of_episodes_has_promised_fields_and_is_json():
    result = evaluate.summary(episodes([True, False, True, True], [1.0, 0.0, 1.0, 1.0]))
    assert result.keys() == KEYS
    assert result["success_rate"] == 0.75
    assert json.loads(json.dumps(result)) == result


def test_summary_outlier_return_moves_mean_but_not_iqm():
    result = evaluate.summary(episodes([None] * 4, [1.0, 2.0, 3.0, 1000.0]))
    assert (result["return_mean"], result["return_iqm"]) == (251.5, 2.5)


def test_over_members_averages_member_summaries():
    told = [evaluate.summary(episodes([True, False], [r, r])) for r in (1.0, 2.0, 3.0, 1000.0)]
    together = evaluate.over_members(told)
    assert together.keys() == KEYS
    assert (together["return_mean"], together["return_iqm"], together["episodes"]) == (251.5, 2.5, 8)


def test_play_same_seed_gives_same_summary():
    env = envs.make("probe:observed", 3)
    policy = Random(env.act_space)
    assert evaluate.play(policy, env, 10, seed=5) == evaluate.play(policy, env, 10, seed=5)
    assert evaluate.play(policy, env, 10, seed=5)["seed"] == 5


# Episodes without end.


@pytest.mark.parametrize(
    ("asked", "longest", "limit"),
    [(0, 0, 10_000), (0, 999, 10_000), (0, 2500, 25_000), (50, 2500, 50), (200_000, 1, 200_000)],
)
def test_step_limit_requested_or_from_training_returns_limit(asked, longest, limit):
    assert evaluate.step_limit(asked, longest) == limit


def test_longest_episode_of_run_or_checkpoint_is_read_from_log(tmp_path):
    checkpoint, file = tmp_path / "checkpoints" / "step-000000000010", tmp_path / "agent.safetensors"
    checkpoint.mkdir(parents=True)
    file.touch()
    assert evaluate.longest_episode(tmp_path) == 0
    rows = [{"length": 7}, {"length": None}, {"length": "8"}, {}, {"length": 3, "kind": "train"}]
    rows.append({"length": 90, "kind": "eval"})
    (tmp_path / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"len')
    found = [evaluate.longest_episode(path) for path in (tmp_path, checkpoint, file, tmp_path / "no")]
    assert found == [7, 7, 0, 0]


def test_play_truncated_episodes_are_counted_and_in_sentence():
    env = envs.make("gymnasium:faulty_env:Endless-v0", 3)
    result = evaluate.play(Random(env.act_space), env, 5, seed=0, limit=1200)
    assert (result["truncated_by_limit"], result["step_limit"], result["length_mean"]) == (5, 1200, 1200)
    assert evaluate.sentence(result).endswith(
        "over 5 episodes (95% intervals), 5 of them cut short after 1,200 steps"
    )
    together = evaluate.over_members([result, result | {"truncated_by_limit": 2}])
    assert (together["truncated_by_limit"], together["step_limit"]) == (7, 1200)
    assert "cut short" not in evaluate.sentence(result | {"truncated_by_limit": 0})


def test_play_long_evaluation_reports_progress(monkeypatch):
    monkeypatch.setattr(evaluate, "FIRST_WORD", 0.0)
    said, env = [], envs.make("gymnasium:faulty_env:Sound-v0", 2)
    evaluate.play(Random(env.act_space), env, 5, seed=0, limit=1000, say=said.append)
    limit = "an episode is cut short after 1,000 steps"
    assert said == [f"evaluation: 0 of 5 episodes are over after 1 steps of each copy; {limit}"]
    monkeypatch.setattr(evaluate, "NEXT_WORD", 0.0)
    evaluate.play(Random(env.act_space), env, 5, seed=0, limit=1000, say=said.append)
    over = [int(text.split()[1]) for text in said[1:]]
    assert over == sorted(over) and over[0] == 0 and over[-1] == 5


# The worlds of training.


def test_generalisation_with_success_has_gap_in_success_rate():
    unseen, trained = episodes([True, False] * 20, [0.25, 0.0] * 20), episodes([True] * 5, [0.75] * 5)
    told = evaluate.generalisation(unseen, trained)
    assert told.keys() == ON_LEVELS
    assert (told["train_episodes"], told["train_success_rate"], told["train_return_mean"]) == (5, 1.0, 0.75)
    low, high = told["generalisation_interval"]
    assert told["generalisation_gap"] == 0.5 and 0.0 < low < 0.2 and 0.6 < high < 0.7
    text = evaluate.sentence(evaluate.summary(unseen) | told)
    assert "over 40 episodes (95% intervals); on 5 training levels success 100.0%, return 0.750" in text
    assert text.endswith(f"generalisation gap 50.0% [{low:.1%}, {high:.1%}]")


def test_generalisation_without_success_has_gap_in_return():
    unseen, trained = episodes([None] * 3, [1.0, 2.0, 3.0]), episodes([None] * 2, [5.0, 5.0])
    told = evaluate.generalisation(unseen, trained)
    assert told["train_success_rate"] is None and told["generalisation_gap"] == 3.0
    text = evaluate.sentence(evaluate.summary(unseen) | told)
    assert "on 2 training levels return 5.000, generalisation gap 3.000 [" in text and "%]" not in text


def test_generalisation_equal_episodes_has_zero_gap():
    played = episodes([True, False, True], [1.0, 0.0, 1.0])
    assert evaluate.generalisation(played, played)["generalisation_gap"] == 0


# The command.


@pytest.fixture
def run(monkeypatch, compilation_cache):
    """`dreamer eval` of a random player of a task, instead of loading one."""

    def prepared(task, **world):
        env = envs.make(task)
        player = Random(env.act_space)
        player.agent = env  # it has the spaces
        player.config = Config(task, 1000, env=EnvConfig(**world))
        monkeypatch.setattr(dreamer, "load", lambda run, *, actor: player)
        return lambda words: cli.main(f"eval anything {words}".split())

    return prepared


def read(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_eval_out_writes_one_line_per_episode(run, tmp_path, capsys):
    out = tmp_path / "episodes.jsonl"
    assert run("minigrid:Empty-5x5")(f"--episodes 6 --seed 3 --out {out} --json") == 0
    result, lines = json.loads(capsys.readouterr().out), read(out)
    assert result.keys() == KEYS | {"actor", "task", "trained_on"}
    columns = ("seed", "return", "length", "success", "discount", "cut", "seconds")
    assert {tuple(line) for line in lines} == {columns}
    assert [line["seed"] for line in lines] == list(range(3, 9))
    assert all(line["success"] == (line["return"] > 0) == (line["discount"] == 0) for line in lines)
    assert result["return_mean"] == pytest.approx(sum(line["return"] for line in lines) / 6)


def test_eval_task_note_is_printed_with_scores(run, monkeypatch, capsys):
    monkeypatch.setattr(gridworld, "note", lambda name: f"{name} is another game.", raising=False)
    evaluated = run("grid:Catch")
    assert evaluated("--episodes 2") == 0
    assert capsys.readouterr().err.endswith("Catch is another game.\n")
    assert evaluated("--episodes 2 --json") == 0
    assert json.loads(capsys.readouterr().out)["note"] == "Catch is another game."


@pytest.mark.parametrize(("episodes", "played"), [(2, 2), (5, 3)])
@pytest.mark.parametrize("task", ["minigrid:Empty-5x5", "grid:Catch"])
def test_eval_run_with_levels_also_evaluates_training_levels(run, tmp_path, capsys, task, episodes, played):
    out = tmp_path / "episodes.jsonl"
    assert run(task, levels=3)(f"--episodes {episodes} --out {out} --json") == 0
    result, lines = json.loads(capsys.readouterr().out), read(out)
    assert result.keys() == KEYS | ON_LEVELS | {"actor", "task", "trained_on"}
    assert result["train_episodes"] == played
    seeds = [*range(episodes), *(FIRST_TRAINING_SEED + i for i in range(played))]
    assert [line["seed"] for line in lines] == seeds
    assert result["success_rate"] == sum(line["success"] for line in lines[:episodes]) / episodes
    assert result["train_success_rate"] == sum(line["success"] for line in lines[episodes:]) / played
    gap = result["train_success_rate"] - result["success_rate"]
    assert result["generalisation_gap"] == pytest.approx(gap)


def test_eval_endless_env_is_truncated_at_max_steps(run, capsys):
    command = run("gymnasium:faulty_env:Endless-v0", levels=2)
    assert command("--episodes 3 --max-steps 40 --json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["truncated_by_limit"], result["train_truncated_by_limit"], result["step_limit"]) == (
        3,
        2,
        40,
    )
    assert command("--episodes 3 --max-steps 40") == 0
    out = capsys.readouterr().out
    assert "3 of them cut short after 40 steps; on 2 training levels" in out
    assert "2 of them cut short after 40 steps, generalisation gap" in out


def test_eval_without_max_steps_uses_limit_of_run(run, capsys, monkeypatch):
    command = run("gymnasium:faulty_env:Endless-v0")
    player = dreamer.load("anything", actor="greedy")
    monkeypatch.setattr(player, "config", Config(player.config.task, 1000, eval=EvalConfig(max_steps=30)))
    assert command("--episodes 2 --json") == 0
    assert json.loads(capsys.readouterr().out)["step_limit"] == 30


def test_eval_run_without_levels_omits_training_levels(run, capsys):
    assert run("probe:observed")("--episodes 4") == 0
    assert "training levels" not in capsys.readouterr().out


def test_eval_unwritable_out_fails_before_playing(run, tmp_path, capsys, monkeypatch):
    command = run("probe:observed")
    monkeypatch.setattr(envs, "make", lambda *args, **rest: pytest.fail("an environment was made"))
    for out, why in ((tmp_path, "Is a directory"), (tmp_path / "no" / "x", "No such file or directory")):
        assert command(f"--episodes 4 --out {out}") == 2
        assert capsys.readouterr() == ("", f"dreamer: --out {out} cannot be written: {why}\n")


@pytest.mark.parametrize(("task", "copies"), [("probe:observed", 16), ("grid:Catch", 256)])
def test_eval_num_envs_defaults_to_suit_task(run, monkeypatch, task, copies):
    made = []
    command = run(task)
    monkeypatch.setattr(envs, "make", lambda task, num_envs, **rest: made.append(num_envs) or 1 / 0)
    for words in ("--episodes 1000", "--episodes 3", "--episodes 1000 --num-envs 5"):
        with pytest.raises(ZeroDivisionError):
            command(words)
    assert made == [copies, 3, 5]
