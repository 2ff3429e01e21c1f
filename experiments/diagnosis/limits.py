"""From when on something counts as a cause, with the reason of each limit."""

START = 20
"""Episodes that say how good the agent was at the start, and fewest that say anything of the end: a success
rate of 20 episodes is known to within 20 percentage points."""
LATE = 100
"""Most episodes that stand for the end of a run: as many as the means that training shows."""
CLEAR = 1.5
"""Standard deviations of the first returns by which the last ones are higher where a task without success
counts as learned: by less, an agent is somewhat better than random (solved tasks reach 2 to 10)."""
MOST = 1_000
"""Most episodes that stand for the start: more say nothing more, and intervals resample all of them."""
SOLVED = 0.9
"""Success (or share of the way to the best return ever seen) from which on no cause is looked for: what is
left is chance, not a setting."""

ENDLESS = 5_000
"""Steps of a copy without an end after which a run that goes on may have endless episodes."""
RARE = 0.02
"""Share of episodes that earn anything unusual below which reward is seen too rarely: random actions in
DoorKey-5x5 succeed in 8%, and it took 900 to 1,300 updates (LOG) to learn from that."""
ENOUGH_EPISODES = 50
"""Episodes before their share says anything."""

FEW_UPDATES = 1_000
"""Updates below which only the easiest tasks are learned: the quickstart needs 600 to 1,800."""
LOW_RATIO = 16.0
"""Train ratio below which it is to blame for few updates: presets of one agent replay a step 16 times or more
(only fused runs with millions of steps do with less, and they make many updates)."""
LARGEST_PREFILL = 0.5
"""Share of the steps that may be prefill; the quickstart needs a third."""
SHORT_WARMUP = 100
"""Updates of the shortest warm-up of a preset: where a run is short against that, it is too short itself."""
FULL_RATE = 2.0
"""Updates, in warm-ups, that a run needs to make at least half of them with the full learning rate."""
TRAVEL = 0.2
"""Least sum of the learning rates of all updates. An update moves a number by about the rate, kernels start
around 0.1, and the shortest successful runs (quickstart 600 x 2.5e-3, Cart-pole 1,500 x 1e-3, published Pong
27,500 x 4e-5) sum to 1 or more."""
HIGH_RATE = 1e-2
"""Learning rate that no preset comes near (the largest is 2.5e-3)."""
GROWTH = 10.0
"""Growth of the norm of all parameters beyond which the learning rate tears them apart; a run that learns
grows it less than threefold."""

HIGH_ENTROPY = 1e-2
"""Weight of the policy's entropy above which it may be to blame; presets have 3e-4 to 3e-3."""
TEMPERATURE = 3.0
"""Entropy weights by which advantages must differ: the best policy under a weight is exp(advantage / weight),
so below that no action becomes 20 times as probable as another."""
COLLAPSED = 0.1
"""Randomness (1: draws blindly) below which a policy tries nothing: the 1% that is mixed in leaves 0.05."""
BLIND = 0.9
"""Randomness above which a policy is as good as random; it starts at 1."""

WORTH = 0.01
"""Least worth at its beginning of a reward at the end of an episode: below that, returns drown in the error
of the critic."""
IMAGINED = 5
"""Imagined steps below which returns are little more than what the critic believes already; presets have 10
or more."""
SEQUENCES = 4.0
"""Lengths of a training sequence in an episode, beyond which what must be remembered across them is hardly
learned: gradients end with the sequence."""

ENDS_AT_LIMIT, ENDED_BEFORE = 0.9, 0.5
"""Share of the episodes that run into the time limit at the end and, at most, at the start of a run that
learned to avoid ending."""
LIMIT_SEEN = 3
"""Episodes of the greatest length that show that it is a limit."""
DROP, SURE = 0.5, 4.0
"""What of the best gain must be lost for a run to have forgotten, and by how many standard errors: the best
of many windows is better than it should be by up to three."""
GAP, GREEDY_WORSE, SAMPLED_WORSE = 0.15, 0.1, 0.25
"""Difference of success (or share of the gain in return) that is worth a sentence: of the evaluation below
training, of greedy actions below sampled ones, and of sampled ones below greedy ones, which good policies are
by a little. It must also be more than chance."""

AT_FLOOR = 1.02
"""KL over free nats up to which it has no gradient, on average."""
UNLEARNED = 0.7
"""What is left of the first reconstruction loss where observations were hardly learned."""
OVERRATED = 2.0
"""Value over the largest return of any episode from which on the critic is wrong, whatever the discount."""
OFTEN = 0.9
"""Share of the late rows in which the gradient was larger than clipping lets through."""

PPO_CLIPPED, PPO_BLIND_CRITIC = 0.3, 0.1
"""Share of PPO's probability ratios that were clipped (0.1 to 0.2 is usual), and explained variance of its
returns (it tends to 1)."""
