"""Which array lives where, and which device runs which agent."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from dreamer.placement import SINGLE, Placement, Sharding, fitting, nbytes, on_one
from dreamer.schema import ConfigError


def test_fitting_more_members_than_devices_gives_equal_shares():
    assert [len(fitting(range(8), n)) for n in (1, 3, 6, 8, 12)] == [1, 3, 6, 8, 6]


@pytest.mark.parametrize(
    ("placement", "size"),
    [
        (SINGLE, 1),
        (Placement.sequential("a"), 1),
        (Placement.sequential("ab"), 2),
        (Placement.vmapped("a", 6), 6),
        (Placement.vmapped("ab", 6), 6),
    ],
)
def test_placement_size_is_the_number_of_agents_per_call(placement, size):
    assert placement.size == size


@pytest.mark.parametrize(
    ("devices", "rows"), [(1, 4), (2, 2), (2, 1)], ids=["vmapped-1", "vmapped-2", "sequential-2"]
)
def test_placement_compiled_function_returns_one_result_per_agent(devices, rows):
    placement = Placement(tuple(jax.local_devices()[:devices]), rows)
    agents = [{"x": jnp.arange(3.0) + i, "n": jnp.asarray(i)} for i in range(placement.size)]
    function = placement.compile(lambda shared, own: {"x": shared * own["x"] + own["n"]})
    found = function(np.float32(2), placement.stack(agents))
    for i, own in enumerate(agents):
        np.testing.assert_array_equal(placement.row(found, i)["x"], 2 * own["x"] + own["n"])


def test_single_compiled_function_has_no_agent_axis():
    assert SINGLE.compile(lambda shared, own: shared + own)(1, jnp.zeros(3)).shape == (3,)


def devices(count=2):
    return jax.local_devices()[:count]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((256, 1024), P(None, "fsdp")),
        ((1024, 256), P("fsdp")),
        ((512, 512), P("fsdp")),
        ((8, 1023, 129), P("fsdp")),
        ((1023, 1025), P()),  # no axis that two devices can share
        ((256, 1023), P()),  # small
        ((512,), P()),
        ((), P()),
    ],
)
def test_spec_large_parameter_is_split_along_its_largest_divisible_axis(shape, expected):
    assert Sharding.over({"fsdp": 2}, devices()).spec(shape) == expected


def test_spec_threshold_is_an_argument_and_data_alone_splits_nothing():
    assert Sharding.over({"fsdp": 2}, devices(), split_from=6).spec((2, 3)) == P("fsdp")
    assert Sharding.over({"data": 2}, devices(), split_from=1).spec((512, 1024)) == P()


def test_of_learner_moments_and_slow_copies_lie_beside_their_parameters():
    sharding = Sharding.over({"fsdp": 2}, devices(), split_from=64)
    state = sharding.of_learner(jax.eval_shape(tiny.agent().init, jax.random.key(0)))
    assert state.opt.mu == state.opt.nu == state.params and state.slow["value"] == state.params["value"]
    specs = [x.spec for x in jax.tree.leaves(state.params)]
    assert P() in specs and any("fsdp" in spec for spec in specs)
    assert state.updates.spec == state.stats["returns"].low.spec == P()


def test_over_axes_have_fixed_order_and_too_few_devices_are_refused():
    mesh = Sharding.over({"fsdp": 2}, devices()).mesh
    assert dict(mesh.shape) == {"data": 1, "fsdp": 2} and set(mesh.axis_types) == {AxisType.Auto}
    with pytest.raises(ConfigError, match="loop.mesh data=2,fsdp=2 needs 4 devices, but there are 2"):
        Sharding.over({"data": 2, "fsdp": 2}, devices())


def test_nbytes_are_those_of_one_device():
    sharding = Sharding.over({"fsdp": 2}, devices(), split_from=8)
    tree = {"large": jnp.zeros((4, 6)), "small": jnp.zeros(3, jnp.int16)}
    shardings = sharding.of_learner(tree)
    placed = sharding.put(tree, shardings)
    assert nbytes(tree, shardings) == 4 * 6 * 4 // 2 + 3 * 2
    assert sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(placed)) == 54


def test_nbytes_of_a_learner_on_eight_devices_are_little_more_than_an_eighth():
    state = jax.eval_shape(tiny.agent().init, jax.random.key(0))
    learner = state.params, state.opt
    alone, eight = (
        nbytes(learner, sharding.of_learner(learner))
        for sharding in (Sharding.abstract({}), Sharding.abstract({"fsdp": 8}, split_from=1))
    )
    assert 0.125 < eight / alone <= 0.15


def test_on_one_split_arrays_are_whole_on_one_device():
    sharding = Sharding.over({"fsdp": 2}, devices(), split_from=1)
    tree = {"x": jnp.arange(8.0), "n": jnp.asarray(1)}
    whole = on_one(sharding.put(tree, sharding.of_learner(tree)))
    assert {len(x.devices()) for x in whole.values()} == {1}
    np.testing.assert_array_equal(whole["x"], tree["x"])
    assert on_one(tree) is tree


MESHES = """
import sys; sys.path.insert(0, {tests!r})
import dataclasses
from pathlib import Path
import jax; jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
import numpy as np, tiny
import part_of_run
import test_source
from dreamer import numbers
from dreamer.actors.policy import SAMPLED
from dreamer.checkpoint import CheckpointStore
from dreamer.config import LoopConfig
from dreamer.loops.clocks import Progress
from dreamer.loops.host import HostLoop
from dreamer.loops.loop import ReplayFiles
from dreamer.placement import Sharding

folder = Path({folder!r})
CFG = LoopConfig(num_envs=2, batch_size=8, batch_length=4, prefill=0, updates=20)
NUMBERS = numbers.replace(tiny.NUMBERS, {{"optim.lr": np.float32(4e-5)}})  # the default rate
files = test_source.recorded(folder)

def loop(mesh):
    cfg = dataclasses.replace(CFG, mesh=mesh)
    agent, _ = test_source.agent_and_env()
    replay, stored = test_source.empty_replay(agent), test_source.empty_replay(agent)
    stored.load(*files)
    source = test_source.Recorded(replay, stored, counted=False)
    sharding = Sharding.over(cfg.mesh_shape, jax.local_devices(), split_from=1) if mesh else None
    options = dict(actor=SAMPLED, sharding=sharding)
    return HostLoop(agent, source, replay, cfg, NUMBERS, None, Progress(), 0, **options)

def bytes_of(tree, per_device=lambda x: x.addressable_shards[0].data.nbytes):
    return sum(map(per_device, jax.tree.leaves(tree)))

MESHES = {meshes!r}
loops = {{mesh: loop(mesh) for mesh in ("", *MESHES)}}
ends = {{mesh: part_of_run.run(loop) for mesh, loop in loops.items()}}
for mesh in MESHES:
    part_of_run.assert_same(ends[mesh], ends[""])
assert not np.allclose(ends[""][1], part_of_run.flat(loop("").state.params), rtol=1e-5)  # it learned

state = loops[MESHES[0]].state
kept = bytes_of((state.params, state.opt)) / bytes_of((state.params, state.opt), lambda x: x.nbytes)
assert kept <= 0.15 or MESHES[0] != "fsdp=8", kept

# The checkpoint of one mesh continues on any other, and on the same one bit for bit.
made = loops[MESHES[0]].checkpoint()
store = CheckpointStore(folder / "checkpoints")
meta = dict(made.meta, progress=vars(loops[MESHES[0]].progress), config={{"loop": dataclasses.asdict(CFG)}})
store.save(1, made.arrays, meta, made.files)
store.wait()

def resumed(mesh):
    loop = loops[mesh]
    loop.cfg = dataclasses.replace(loop.cfg, updates=25)
    step, arrays, meta = store.load(loop.template)
    loop.restore(arrays, meta, ReplayFiles(store.replay_folder, store.replay_files(step)))
    assert spec_of(loop) == specs[mesh]
    return part_of_run.run(loop)

spec_of = lambda loop: [getattr(x.sharding, "spec", None) for x in jax.tree.leaves(loop.state.params)]
specs = {{mesh: spec_of(loop) for mesh, loop in loops.items()}}
first, again, other, one = map(resumed, (MESHES[0], MESHES[0], MESHES[-1], ""))
assert np.array_equal(first[1], again[1])
part_of_run.assert_same(other, first, updates=5)
part_of_run.assert_same(one, first, updates=5)
print("same")
"""


@pytest.mark.parametrize(
    "meshes",
    [("data=2,fsdp=4",), pytest.param(("fsdp=8", "data=8"), marks=pytest.mark.slow)],  # each compiles long
    ids=" ".join,
)
def test_meshes_of_eight_devices_learn_and_resume_as_one_device(meshes, tmp_path, compilation_cache):
    """The host loop, 20 updates in float32: losses and parameters to 1e-5, and bytes of a device."""
    code = MESHES.format(tests=str(Path(__file__).parent), folder=str(tmp_path), meshes=meshes)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "same", done.stderr[-3000:]


FUSED = """
import sys; sys.path.insert(0, {tests!r})
import jax; jax.config.update("jax_num_cpu_devices", 8)
import dataclasses, re
import numpy as np, tiny
from test_fused import AGENT, functions
from dreamer import numbers
from dreamer.config import LoopConfig
from dreamer.loops.clocks import Progress
from dreamer.loops.fused import CompiledLoop, FusedLoop, stored, unstored
from dreamer.numbers import trace
from dreamer.placement import Sharding

CFG = LoopConfig(num_envs=8, batch_size=8, batch_length=4, prefill=80, train_ratio=4)
NUMBERS = numbers.replace(trace(AGENT), {{"optim.lr": np.float32(4e-5)}})

def loop(mesh, **changes):
    sharding = Sharding.over(mesh, jax.local_devices(), split_from=1) if mesh else None
    cfg = dataclasses.replace(CFG, **changes)
    compiled = CompiledLoop(functions(cfg, sharding))
    return FusedLoop(compiled, NUMBERS, 0, 240, Progress())

def flat(tree):
    return np.concatenate([np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)])

def compare(ours, theirs):
    a, b = flat(ours.state.params), flat(theirs.state.params)
    assert np.linalg.norm(a - b) < 1e-5 * np.linalg.norm(b), np.linalg.norm(a - b)
    ours, theirs = (x.full.acting.ring.columns["action/action"] for x in (ours, theirs))
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))

one = loop({{}})
list(one.outputs())
assert one.progress.updates == 20
mesh = loop({{"data": 2, "fsdp": 4}})
list(mesh.outputs())
compare(mesh, one)
column = mesh.full.acting.ring.columns["reward"].sharding
assert column.spec[0] == ("data", "fsdp")
text = mesh.compiled.learn.lower(np.int32(1), mesh.full, *mesh.arguments).compile().as_text()
# No column of the replay is gathered (in float32 there are parameters of such a shape).
assert not re.findall(r"= (?!f32)\\w+\\[(?:8,)?100[\\],]\\S* all-gather", text)

# A dispatch more, from the arrays of a checkpoint, in the same program.
template = mesh.template
place = lambda x, like: jax.device_put(np.asarray(x), like.sharding)
arrays = jax.tree.map(place, stored(mesh.full), template)
mesh.restore(arrays, {{"progress": vars(mesh.progress)}})
again = mesh.compiled.learn._cache_size()
mesh.total += 1
mesh.advance()
assert mesh.compiled.learn._cache_size() == again == 1
print("same")
"""


@pytest.mark.slow  # compiles whole programs for eight devices
def test_fused_loop_on_a_mesh_equals_one_device():
    code = FUSED.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "same", done.stderr[-3000:]
