"""A user's own module: one sound environment and one for each way to break the contract."""

from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces


class Sound(gymnasium.Env):
    """A counter with a seeded offset; ends after 12 steps, or at 5 if the last action was 1."""

    observation_space = spaces.Dict(
        {"count": spaces.Discrete(13), "offset": spaces.Box(-1, 1, (2,), np.float32)}
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        self.offset = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.observe(), {}

    def step(self, action):
        self.count += 1
        terminated = self.count >= 5 and action == 1
        return self.observe(), float(action), terminated, self.count == 12, {}

    def observe(self):
        return {"count": self.count, "offset": self.offset}


class NaNObservation(Sound):
    def observe(self):
        offset = self.offset * (np.nan if self.count == 3 else 1)
        return {"count": self.count, "offset": offset}


class WrongShape(Sound):
    def observe(self):
        return {"count": self.count, "offset": self.offset[: 1 + (self.count < 3)]}


class WrongDtype(Sound):
    def observe(self):
        return {"count": self.count + 0.5, "offset": self.offset}


class WrongKeys(Sound):
    def observe(self):
        return {"count": self.count}


class WrongClass(Sound):
    def observe(self):
        return {"count": self.count + 10, "offset": self.offset}


class NaNReward(Sound):
    def step(self, action):
        obs, _, terminated, truncated, info = super().step(action)
        return obs, np.nan if self.count == 4 else 0.0, terminated, truncated, info


class ArrayReward(Sound):
    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, np.array([reward]), terminated, truncated, info


class Raises(Sound):
    def step(self, action):
        if self.count == 2:
            raise ZeroDivisionError("division by zero\nwith a second line")
        return super().step(action)


class IgnoresSeed(Sound):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None)


class Leaks(Sound):
    """What happened in earlier episodes decides where the next one starts."""

    plays = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.plays += 1
        self.offset[:] = self.plays / 1000
        return self.observe(), {}


class LimitAsEnd(Sound):
    def step(self, action):
        obs, reward, _, _, info = super().step(action)
        return obs, reward, self.count == 12, False, info


class LosesTheEnd(Sound):
    """Resets itself like an environment with its own autoreset."""

    observation_space = spaces.Discrete(13)

    def observe(self):
        return self.count

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return 0 if terminated or truncated else obs, reward, terminated, truncated, info


class Dies(Sound):
    """Takes its process with it, as a crash in native code does."""

    def step(self, action):
        import os

        os._exit(1)


class CannotBeBuilt(Sound):
    def __init__(self):
        raise TypeError("no licence")


class Bounds(Sound):
    """Leaves its declared bounds by a little, in one entry."""

    def observe(self):
        return {"count": self.count, "offset": self.offset + [0, np.float32(2.5 * (self.count == 3))]}


class Exits(Sound):
    def step(self, action):
        if self.count == 2:
            raise SystemExit(3)
        return super().step(action)


class ExitsAtReset(Sound):
    def reset(self, *, seed=None, options=None):
        import sys

        sys.exit("no display")


class ExitsWhenBuilt(Sound):
    def __init__(self):
        import sys

        sys.exit("no licence")


class Interrupts(Sound):
    """Raises what Ctrl-C raises, although nobody pressed it."""

    def step(self, action):
        raise KeyboardInterrupt("window closed")


class IsInterrupted(Sound):
    """Somebody presses Ctrl-C meanwhile."""

    def step(self, action):
        import signal

        signal.raise_signal(signal.SIGINT)


class Stuck(Sound):
    """Waits for what never comes, if the action is 1."""

    def step(self, action):
        if action == 1:
            self.wait()
        return super().step(action)

    def wait(self):
        import time

        time.sleep(1000)


class Slow(Sound):
    """Takes half a second for a step."""

    def step(self, action):
        import time

        time.sleep(0.5)
        return super().step(action)


class OldReset(Sound):
    """Two numbers, which would pass for a pair."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]["offset"]


class OldSeed(Sound):
    def seed(self, seed=None):
        pass

    def reset(self):
        return self.observe()


class OldStep(Sound):
    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated or truncated, info


class OldStepWithLimit(OldStep):
    """The same below a wrapper of Gymnasium."""


class NoStep(Sound):
    def step(self, action):
        super().step(action)


class OddInfo(Sound):
    def step(self, action):
        return *super().step(action)[:4], "solved"


class NoReward(Sound):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, None, *rest


class ComplexReward(Sound):
    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, reward + 0j, *rest


class HugeReward(Sound):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, 10**400, *rest


class NoFlag(Sound):
    """An episode that would never end."""

    def step(self, action):
        obs, reward, _, truncated, info = super().step(action)
        return obs, reward, None, truncated, info


class ArrayFlag(Sound):
    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated, np.array([truncated, truncated]), info


class Endless(Sound):
    def step(self, action):
        obs, reward, _, _, info = super().step(action)
        self.count %= 12
        return obs, reward, False, False, info


class Part:
    def __init__(self, name):
        self.name = name


class ByAddress(Sound):
    """Its parts are in the order of their addresses, as in a set."""

    observation_space = spaces.MultiDiscrete([8] * 8)

    def reset(self, *, seed=None, options=None):
        self.parts = [Part(i) for i in range(8)]
        return super().reset(seed=seed)

    def observe(self):
        return np.array([part.name for part in sorted(self.parts, key=id)])


class ByAddressOnce(ByAddress):
    """The same, for everything in one process alike."""

    order = sorted((Part(i) for i in range(8)), key=id)

    def observe(self):
        return np.array([part.name for part in self.order])


class ByHash(Sound):
    """Differs from process to process, unless PYTHONHASHSEED is set."""

    def observe(self):
        place = hash("tree") / 2**63
        return {"count": self.count, "offset": np.array([place, self.offset[0]], np.float32)}


class Notes(Sound):
    """Leaves a file in a folder for every step, and when it is closed."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def step(self, action):
        result = super().step(action)
        (self.folder / f"step {self.count}").touch()
        return result

    def close(self):
        (self.folder / "closed").touch()


WAITING = (IsInterrupted, Stuck, Slow, Notes)
FAULTS = [env for env in Sound.__subclasses__() if env not in WAITING]


# What is odd, but says all that is needed.


class ArrayFlags(Sound):
    """Arrays of one entry, as from a batch of one."""

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, np.array(reward), np.array([terminated]), np.array(truncated), info


class NoInfo(Sound):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0], None

    def step(self, action):
        return *super().step(action)[:4], None


class SaysSuccess(Sound):
    """As `said` has it."""

    said = {}

    def step(self, action):
        return *super().step(action)[:4], dict(self.said)


class Prints(Sound):
    def step(self, action):
        import os

        print("a step", flush=True)
        os.write(1, b"from native code\n")
        return super().step(action)


class FailsToClose(Sound):
    def close(self):
        raise SystemExit("the server is gone")


ODD = [env for env in Sound.__subclasses__() if env not in (*FAULTS, *WAITING)]

for env in (Sound, *FAULTS, *ODD, ByAddressOnce, *WAITING):
    gymnasium.register(f"{env.__name__}-v0", entry_point=env)
gymnasium.register("OldStepWithLimit-v0", entry_point=OldStepWithLimit, max_episode_steps=50)
