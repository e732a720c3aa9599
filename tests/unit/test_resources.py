"""Pool sizes are decided on a frozen picture of a cluster, without Ray."""

from fractions import Fraction
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luke_batch.base.errors import PreflightError, ResourceError
from luke_batch.distributed.resources import (
    LENT,
    LIGHT_CPUS,
    Demand,
    Node,
    check_object_store,
    plan_pools,
)

LAPTOP = (Node(2, 0),)
MANY = 1000


def demand(cpus: float = 1, gpus: float = 0, actors: Literal["auto"] | int = "auto", model: str = "main") -> Demand:
    """The demand of one model."""
    return Demand(model, cpus, gpus, actors)


def sizes(nodes: tuple[Node, ...], *demands: Demand, items: int = MANY) -> list[int]:
    """Actors of each pool."""
    return [pool.actors for pool in plan_pools(nodes, demands, items).models]


def test_auto_takes_every_core() -> None:
    """`actors: auto` fills all cores, on every node."""
    assert sizes(LAPTOP, demand()) == [2]
    assert sizes((Node(8, 0), Node(4, 0)), demand(cpus=2)) == [6]


def test_light_tasks_keep_room_beside_actors_on_every_core() -> None:
    """Actors ask Ray for less than a core, so that two light tasks fit even on a node with one."""
    pools = plan_pools((Node(1, 0),), [demand()], MANY)
    assert pools.models[0].actors == 1
    assert pools.models[0].num_cpus + 2 * LIGHT_CPUS <= 1


def test_pools_share_evenly() -> None:
    """Every pool gets one actor before any gets two."""
    assert sizes((Node(5, 0),), demand(), demand(model="other")) == [3, 2]


def test_no_more_actors_than_items() -> None:
    """An actor without a work item would load its model for nothing."""
    assert sizes((Node(64, 0),), demand(), items=3) == [3]


def test_fixed_numbers_are_kept() -> None:
    """A number in `actors` is neither raised nor lowered; auto takes what is left."""
    assert sizes((Node(8, 0),), demand(actors=2), demand(model="other"), items=MANY) == [2, 6]
    assert sizes((Node(8, 0),), demand(actors=4), items=1) == [4]


def test_fractions_share_one_gpu() -> None:
    """Two actors with half a GPU each share one device; 0.6 twice do not fit into one."""
    assert sizes((Node(8, 2),), demand(gpus=0.5)) == [4]
    assert sizes((Node(8, 2),), demand(gpus=0.6)) == [2]
    assert sizes((Node(8, 4),), demand(gpus=2)) == [2]


def test_cpu_pool_beside_gpu_pool() -> None:
    """The CPU model leaves a GPU node's cores to the GPU model, and uses those that are free."""
    nodes = (Node(4, 4), Node(4, 0))
    assert sizes(nodes, demand(), demand(gpus=1, model="big")) == [4, 4]
    assert sizes((Node(16, 1),), demand(), demand(gpus=1, model="big")) == [15, 1]


def test_models_without_cpus() -> None:
    """`num_cpus: 0` is legal where a number of actors bounds the pool."""
    assert sizes(LAPTOP, demand(cpus=0, actors=3)) == [3]
    assert sizes((Node(1, 1),), demand(cpus=0, gpus=0.25)) == [4]


def test_auto_without_any_demand_is_refused() -> None:
    """Actors that ask for nothing would fit without end."""
    with pytest.raises(ResourceError, match=r"give a number in models.main.actors"):
        sizes(LAPTOP, demand(cpus=0))


def test_an_actor_larger_than_any_node_is_refused_with_numbers() -> None:
    """The message says what an actor needs, what the largest node has, and which setting to lower."""
    with pytest.raises(ResourceError, match=r"models.main: each actor needs 4 CPUs, .* has 2 CPUs.*num_cpus"):
        sizes(LAPTOP, demand(cpus=4))
    with pytest.raises(ResourceError, match=r"needs 1 CPU and 1 GPU, .* has 2 CPUs"):
        sizes(LAPTOP, demand(gpus=1))
    with pytest.raises(ResourceError, match=r"num_gpus is 1.5.*use 1"):
        sizes((Node(8, 4),), demand(gpus=1.5))


def test_pools_that_do_not_fit_together_are_refused_with_numbers() -> None:
    """Each would fit alone; together they could never run at the same time, and the sum is named."""
    expected = r"need 3 CPUs at the same time \(main 2 x 1 CPU, other 1 x 1 CPU\), the cluster has 2 CPUs on 1 node"
    with pytest.raises(ResourceError, match=expected):
        sizes(LAPTOP, demand(actors=2), demand(model="other"))


def test_a_cluster_without_cpus_is_refused() -> None:
    """Reading and committing need a CPU, too."""
    with pytest.raises(ResourceError, match="no node of the cluster has a CPU"):
        sizes((Node(0, 4),), demand(cpus=0, gpus=1))


@given(
    nodes=st.lists(st.builds(Node, st.integers(1, 16), st.integers(0, 4)), min_size=1, max_size=4),
    demands=st.lists(
        st.builds(demand, st.sampled_from([0.25, 0.5, 1, 2]), st.sampled_from([0, 0.25, 0.5, 1]), st.just("auto")),
        min_size=1,
        max_size=3,
    ),
)
def test_a_plan_never_asks_for_more_than_there_is(nodes: list[Node], demands: list[Demand]) -> None:
    """Whatever is accepted fits into the cluster with room for light tasks, and every pool has an actor."""
    try:
        pools = plan_pools(nodes, demands, MANY)
    except (ResourceError, PreflightError):
        return
    asked = sum(Fraction(str(pool.num_cpus)) * pool.actors for pool in pools.models)
    assert asked <= Fraction(1 - LENT) * sum(Fraction(node.cpus) for node in nodes) + Fraction(1, 1000)
    assert sum(pool.num_gpus * pool.actors for pool in pools.models) <= sum(node.gpus for node in nodes)
    assert all(pool.actors >= 1 for pool in pools.models)


def test_every_model_that_fits_nowhere_is_named() -> None:
    """All at once, each with its own line."""
    with pytest.raises(PreflightError) as raised:
        sizes(LAPTOP, demand(cpus=64, model="big"), demand(gpus=1, model="fast"), demand())
    assert [str(problem).partition(":")[0] for problem in raised.value.problems] == [
        "models.big",
        "models.fast",
    ]


def test_cuda_needs_a_gpu_from_ray() -> None:
    """Ray hides the GPUs from a worker without one."""
    asked = Demand("main", 1, 0, "auto", cuda=True)
    with pytest.raises(ResourceError, match="`device: cuda` needs `num_gpus` above 0"):
        plan_pools((Node(4, 4),), [asked], MANY)


def test_a_work_item_must_fit_twice_into_an_object_store() -> None:
    """The largest node with a CPU counts; a node that does not tell has enough."""
    small, large = Node(1, 0, object_store=80e6), Node(1, 0, object_store=200e6)
    check_object_store((small, large), 100_000_000)
    check_object_store((small, Node(1, 0)), 10**12)
    with pytest.raises(ResourceError, match=r"has 100\.0 MB, .* has 80\.0 MB; lower output\.max_bytes"):
        check_object_store((small, Node(0, 0, object_store=1e12)), 100_000_000)
