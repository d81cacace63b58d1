"""On several ranks, loss and gradients are those of one process with the joint batch.

Data-parallel training averages gradients over ranks, hence the divisions by their number.
"""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from levyjepa.lattice import box, diamond
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
from levyjepa.objectives import (
    LeJEPA,
    LevyRegularizer,
    SIGReg,
    TotalVariation,
    VideoRegularizer,
    invariance,
)

LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))
SHARES = {2: [5, 3], 3: [4, 1, 3]}  # images of each rank


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=generator())


FIELD, CLIPS, Z = noise(8, 7, 6, 4), noise(8, 4, 5, 5, 4), noise(8, 2, 4)
MASK = torch.ones(8, 7, 6, dtype=torch.bool)
MASK[0] = False  # an image without a cell
MASK[4, :3] = False
MASK[6] = False


def prior(**options):
    term = LevyRegularizer(LAW, (box(2), diamond()), **options)
    return lambda x: term(x, generator=generator()), term


def masked(**options):
    term = LevyRegularizer(LAW, (box(2), diamond()), **options)
    return lambda x, m: term(x, generator=generator(), mask=m), term


def cases():
    """Functions of a rank's share, the module with parameters, and the joint inputs."""
    video, variation, total = VideoRegularizer(LAW), TotalVariation(), LeJEPA(prior()[1])
    sigreg = SIGReg(8)
    yield from (
        (*prior(pool=pool, **options), FIELD)
        for pool in ("image", "channel", "batch")
        for options in ({}, {"unbiased": False}, {"calibrated": True}, {"cells": "every"})
    )
    yield from (
        (*masked(pool=pool, **options), FIELD, MASK)
        for pool in ("image", "channel", "batch")
        for options in ({}, {"unbiased": False}, {"scale": "tokens"}, {"scale": "free"})
    )
    yield *prior(pool="batch", learnable=True), FIELD
    yield *masked(pool="batch", directions=6), FIELD, MASK
    yield *prior(scale="tokens"), FIELD
    yield *prior(scale="free", learnable=True), FIELD
    yield lambda x: video(x, generator=generator()), video, CLIPS
    yield lambda x: variation(x), variation, FIELD
    yield lambda x, m: variation(x, mask=m), variation, FIELD, MASK
    yield lambda z: invariance(z.movedim(1, 0)), variation, Z
    yield lambda z: sigreg(z.movedim(1, 0), generator=generator()), sigreg, Z
    yield (
        lambda z, x: total(z.movedim(1, 0), x, generator=generator()).total,
        total,
        Z,
        FIELD,
    )


def gradients(function, module, inputs):
    """The loss, the gradients with respect to the first input and to the parameters."""
    module.zero_grad()
    leaf = inputs[0].clone().requires_grad_()
    loss = function(leaf, *inputs[1:])
    loss.backward()
    return loss.item(), leaf.grad, [p.grad.clone() for p in module.parameters()]


def on_a_rank(rank, shares, folder):
    torch.manual_seed(rank)
    world = len(shares)
    address = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    results = []
    for function, module, *inputs in cases():
        own = [x.split(shares)[rank] for x in inputs]
        loss, grad, law = gradients(function, module, own)
        results.append((loss, grad / world, [g / world for g in law]))
    batch = LevyRegularizer(LAW, pool="batch")
    drawn = [SIGReg(8)(Z.movedim(1, 0)).item(), batch(FIELD).item()]  # without a generator
    groups = [dist.new_group([n]) for n in range(world)]
    own = FIELD.split(shares)[rank]
    apart = LevyRegularizer(LAW, pool="batch", process_group=groups[rank])
    drawn.append(apart(own, generator=generator()).item())
    torch.save((results, drawn), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads can abort Python's normal exit


@pytest.mark.parametrize("world", SHARES)
@pytest.mark.filterwarnings("ignore:`field` and `mask` leave no pair")
def test_ranks_are_one_joint_batch(world, tmp_path):
    shares = SHARES[world]
    mp.spawn(on_a_rank, (shares, tmp_path), world)
    ranks = {rank: torch.load(tmp_path / f"{rank}.pt") for rank in range(world)}
    for n, (function, module, *inputs) in enumerate(cases()):
        want, joint, law = gradients(function, module, inputs)
        for rank, part in enumerate(joint.split(shares)):
            loss, grad, _ = ranks[rank][0][n]
            assert loss == pytest.approx(want, rel=1e-10, abs=1e-15), n
            assert torch.allclose(grad, part, rtol=1e-9, atol=1e-14), n
        for parts in zip(law, *(ranks[rank][0][n][2] for rank in ranks), strict=True):
            assert torch.allclose(sum(parts[1:]), parts[0], rtol=1e-5), n
    for rank, (_, drawn) in ranks.items():
        assert drawn[:2] == ranks[0][1][:2]  # the same directions and rotations
        own = FIELD.split(shares)[rank]
        alone = LevyRegularizer(LAW, pool="batch")(own, generator=generator()).item()
        assert drawn[2] == pytest.approx(alone, rel=1e-12)
