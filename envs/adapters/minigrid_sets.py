"""Named sets of levels of MiniGrid and BabyAI, by short name."""

from __future__ import annotations

TABLE = (
    "Empty-Random-6x6",  # walk to a goal in sight: what every agent should do
    "DoorKey-5x5",  # key, door, goal: rewards are rare at first
    "DoorKey-6x6",  # the same with a third more cells
    "Unlock",  # key and door in two larger rooms
    "FourRooms",  # a goal out of sight, anywhere
    "SimpleCrossingS9N1",  # a wall with one gap
    "LavaGapS5",  # the same in lava, where a wrong step is the end
    "Dynamic-Obstacles-5x5",  # obstacles that move, and a penalty
    "MemoryS7",  # what was shown at the start decides at the end
    "BabyAI-GoToRedBallNoDists",  # one object, always the same sentence
    "BabyAI-GoToRedBall",  # the same object among others
    "BabyAI-GoToLocal",  # any object: the sentence has to be read
)
"""Twelve levels from easy to hard, each with something that the ones before it lack, none larger than the
19 x 19 cells of FourRooms. Empty-5x5 and -8x8 are left out: their grid is fixed, the first level's is not."""

ONE_ROOM = ("GoToObj", "GoToRedBallGrey", "GoToRedBall", "GoToLocal", "PutNextLocal", "PickupLoc")
MAZES = (
    *("GoToObjMaze", "GoTo", "Pickup", "UnblockPickup", "Open", "Unlock"),
    *("Synth", "SynthLoc", "GoToSeq", "SynthSeq", "GoToImpUnlock", "BossLevel"),
)

SETS = {
    "table-12": TABLE,
    "doorkey": ("DoorKey-5x5", "DoorKey-6x6", "DoorKey-8x8", "DoorKey-16x16"),
    "memory": ("MemoryS7", "MemoryS9", "MemoryS11", "MemoryS13", "MemoryS13Random", "MemoryS17Random"),
    "babyai-one-room": tuple(f"BabyAI-{level}" for level in ONE_ROOM),
    "babyai-mazes": tuple(f"BabyAI-{level}" for level in MAZES),
}
"""The first is the usual one. BabyAI's are the levels of its paper (Chevalier-Boisvert et al. 2019), of one
room and of a maze of nine rooms; PutNext, of which MiniGrid has sizes only, is left out."""
