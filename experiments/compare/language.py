"""Language models as contestants: one cache, one budget and one price table for all of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import envs
from dreamer.schema import ConfigError
from envs.adapters import UnknownTask
from envs.api import FIRST_TRAINING_SEED, UnsupportedSpace, VectorEnv
from envs.rollout import Episode
from envs.text import TextWorld, text_world
from experiments.compare.options import CompareOptions
from experiments.compare.play import Seat
from experiments.compare.question import place
from experiments.compare.transcript import Writer, read_all
from experiments.compare.worlds import Worlds
from experiments.llm import memory, prices, prompt
from experiments.llm.budget import Budget
from experiments.llm.cache import Cache
from experiments.llm.client import LLMClient, Patience
from experiments.llm.policy import LLMPolicy
from experiments.llm.prompt import Demonstration, Protocol
from experiments.llm.transcript import Transcript, read
from experiments.llm.wire import GRAMMAR, Usage

LOCAL = "local"
CACHE = "cache.sqlite"
PATIENCE = Patience()
"""How long an endpoint is asked for one reply."""


class Endpoints:
    """What all language models of a comparison share.

    Args:
      stack: closes what is opened.
      stop: ends waits for an endpoint.
      worlds: how tasks are opened.

    Raises:
      ConfigError: the prices or the cache cannot be read, or the protocol is invalid.
    """

    def __init__(
        self,
        options: CompareOptions,
        out: Path,
        stack: contextlib.ExitStack,
        stop: threading.Event,
        worlds: Worlds = Worlds(),
    ):
        self.options, self.out, self.worlds = options, out, worlds
        self._stack, self._stop = stack, stop
        self.protocol = protocol_of(options)
        self.prices = prices.load(Path(options.prices) if options.prices else None)
        self.budget = Budget(options.max_usd or None, options.max_tokens or None, options.max_hours or None)
        self._cache: Cache | None = None
        if options.llm_cache != "off":
            replays = options.llm_cache == "replay"
            self._cache = stack.enter_context(Cache(out / CACHE, replay_only=replays))

    def player(self, name: str, model: str) -> Speaker:
        """The contestant of a name; what its finished episodes have cost counts for the budget.

        Raises:
          ConfigError: there is no address, no key or no package.
        """
        options, base_url = self.options, self.options.llm_base_url
        concurrency = 1 if self.protocol.notes else options.concurrency  # lessons follow each other
        is_local = model == LOCAL or model.endswith(".gguf")
        if is_local:
            from experiments.llm.local import LocalServer

            gguf = None if model == LOCAL else Path(model)
            server = self._stack.enter_context(LocalServer(gguf))
            base_url, model = server.base_url, server.model
            concurrency = 1  # it answers one request at a time, and remembers the prompt of the last
        client = LLMClient(
            base_url,
            model,
            api_key_env=options.llm_api_key_env,
            api=options.llm_api,
            plain_http=options.llm_plain_http,
            free=is_local,
            # The fewest tokens: a schema leaves room for blanks.
            constraints=(GRAMMAR,) if is_local else None,
            repeats=is_local,
            prices=self.prices,
            budget=self.budget,
            cache=self._cache,
            patience=PATIENCE,
            sleep=self._stop.wait,
            stopped=self._stop.is_set,
        )
        self._stack.callback(client.close)
        for task in options.task:
            for played in read_all(place(self.out, task, name), options.seeds):
                self._charge(client, played.lines if played.result is not None else ())
        return Speaker(name, client, self, concurrency)

    def _charge(self, client: LLMClient, lines: Sequence[dict[str, Any]]) -> None:
        for call in (call for line in lines for call in line.get("calls", ())):
            usage = Usage(**call["usage"]) if call["usage"] else None
            self.budget.charge(usage, client.usd(usage) if call["usd"] is None else call["usd"])
            if call.get("lost"):  # transcripts of earlier versions do not say
                self.budget.charge(Usage(**call["lost"]), call["lost_usd"] or 0.0)


def protocol_of(options: CompareOptions) -> Protocol:
    """How the models are asked."""
    few = options.llm_mode == "few-shot"
    return Protocol(
        mode=options.llm_mode,
        shots=options.llm_shots if few else 0,
        history=options.llm_history,
        temperature=None if options.llm_temperature < 0 else options.llm_temperature,
        max_output_tokens=options.llm_output_tokens,
        notes=options.llm_notes,
    )


@dataclass(frozen=True)
class Speaker:
    """A language model that is told in words what there is."""

    name: str
    client: LLMClient
    shared: Endpoints
    concurrency: int
    """Episodes at a time."""

    def identity(self, task: str) -> dict[str, Any]:
        world, shots = self._world(task)
        return {
            "model": self.client.model,
            "host": "this machine" if self.client.is_local else self.client.host,
            "text": world.version,
            "prompt": prompt.prompt_hash(world, self.shared.protocol, shots),
            **self.shared.worlds.of(task),
        }

    def _world(self, task: str) -> tuple[TextWorld, list[Demonstration]]:
        """The task in words, and what is shown of it.

        Raises:
          ConfigError: it cannot be told in words, or no scripted player can show it.
        """
        try:
            with contextlib.closing(self._env(task)) as env:
                world = text_world(env, privileged=self.shared.options.llm_privileged)
                return world, shown(env, world, self.shared.protocol.shots)
        except (UnsupportedSpace, UnknownTask) as error:
            raise ConfigError(f"{self.name} cannot play {task}: {error}") from None

    def _env(self, task: str) -> VectorEnv:
        obs = "privileged" if self.shared.options.llm_privileged else ""
        return envs.make(task, 1, obs=obs, **self.shared.worlds.of(task))

    def seat(self, task: str) -> Seat:
        world, shots = self._world(task)
        protocol, client = self.shared.protocol, self.client
        folder = place(self.shared.out, task, self.name)
        options = self.shared.options

        def make_policy(env: VectorEnv, seed: int, file: Writer) -> LLMPolicy:
            assert isinstance(file, Transcript)
            before = range(options.seed, seed) if protocol.notes else ()
            return LLMPolicy(
                client,
                world,
                protocol,
                demonstrations=shots,
                notes=[n for s in before for n in memory.notes(read(folder / f"{s}.jsonl").lines)],
                transcript=file,
                sample=f"{task}/{seed}",
                max_steps=options.limit,
            )

        def after(file: Writer, episode: Episode) -> None:
            if protocol.notes:
                assert isinstance(file, Transcript)
                sample = f"{task}/{episode.seed}"
                memory.reflect(client, world, protocol, file, _outcome(episode), sample=sample)

        return Seat(
            lambda: self._env(task),
            make_policy,
            act=lambda line: {k: np.asarray(v).tolist() for k, v in world.act(line["action"]).items()},
            writes=True,
            open=Transcript,
            after=after,
            concurrency=self.concurrency,
            disclosure=self._disclosure(world, shots),
        )

    def _disclosure(self, world: TextWorld, shots: Sequence[Demonstration]) -> dict[str, Any]:
        price, protocol = self.client.price, asdict(self.shared.protocol)
        unset = {} if protocol["temperature"] is not None else {"temperature": "the endpoint's"}
        shown = {"demonstrations": "the scripted player's first steps, on training seeds"} if shots else {}
        settings = {k: v for k, v in self.client.settings.items() if v}
        return {
            "sees": world.sees,
            "privileged": world.privileged,
            "text": world.version,
            "prompt": prompt.prompt_hash(world, self.shared.protocol, shots),
            "default": world.default,
            "prices": "none known" if price is None else f"of {price.date}, from {price.source}",
            "env_steps": None,
            "remote": not self.client.is_local,
            **protocol,
            **unset,
            **shown,
            **settings,
        }


def shown(env: VectorEnv, world: TextWorld, steps: int) -> list[Demonstration]:
    """The first steps of the scripted player, from training seeds on, as a model is shown them.

    Raises:
      ConfigError: there is no scripted player for the task.
    """
    if not steps:
        return []
    from experiments.baselines.scripted import demonstrations

    examples: list[Demonstration] = []
    seed = FIRST_TRAINING_SEED
    while len(examples) < steps:
        ((*episode,),) = demonstrations(env, range(seed, seed + 100), 1)
        episode_examples = [
            Demonstration("\n".join(filter(None, world.tell(obs))), name)
            for obs, action in episode
            for name in world.actions
            if _same(world.act(name), action)
        ]
        if not episode_examples:
            raise ConfigError(f"few-shot has nothing to show of {env.task}: its actions have no words")
        examples += episode_examples
        seed += 100
    return examples[:steps]


def _same(a: Any, b: Any) -> bool:
    return all(np.array_equal(a[k], b[k]) for k in b)


def _outcome(episode: Episode) -> str:
    did = {True: "you succeeded", False: "you failed", None: "it ended"}[episode.success]
    return f"{did}, with a return of {episode.return_:.3g} after {episode.length} steps"
