"""One step on one process or two, for DDP and fully_shard; run as a script, as spawn needs it."""

import os
import sys
from pathlib import Path
from typing import Any

import timm
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

import levyjepa

LAW = levyjepa.Brownian(0.25) + levyjepa.CompoundPoisson(0.3, levyjepa.LaplaceJumps(1.0))
SMALL: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 48,
    "depth": 2,
    "num_heads": 4,
}
BATCH = 8


def model_of(checkpointing: bool) -> Any:
    torch.manual_seed(0)
    model: Any = timm.create_model("vit_tiny_patch16_224", num_classes=2, **SMALL)
    model.levy = levyjepa.LevyTerm(model, LAW, layer=1 if checkpointing else None)
    model.set_grad_checkpointing(checkpointing)
    return model


def step(rank: int, ranks: int, how: str, out: Path) -> None:
    """Save the gradients and the loss of one step."""
    torch.set_num_threads(1)
    if ranks > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[3]}
        dist.init_process_group("gloo", rank=rank, world_size=ranks)
    model = model_of("checkpoint" in how)
    term, run = model.levy, model
    if how.startswith("ddp") and ranks > 1:
        run = DistributedDataParallel(model, static_graph="static" in how)
    elif how == "fsdp" and ranks > 1:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (ranks,))
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    images = torch.randn(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    mine = images.chunk(ranks)[rank]
    for _ in range(2):  # the second step starts from a used model
        model.zero_grad()
        logits = run(mine)
        value = term(generator=torch.Generator().manual_seed(2))
        loss = logits.square().mean() + value
        loss.backward()
    grads = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            grad = parameter.grad
            grads[name] = grad.full_tensor() if hasattr(grad, "full_tensor") else grad
    torch.save({"grads": grads, "term": value.detach()}, out / f"{how}-{ranks}-{rank}.pt")
    if ranks > 1:
        dist.barrier()
        dist.destroy_process_group()
        os._exit(0)  # gloo's threads can abort Python's normal exit


if __name__ == "__main__":
    name, folder = sys.argv[1], Path(sys.argv[2])
    step(0, 1, name, folder)
    mp.spawn(step, (2, name, folder), 2)  # pyright: ignore
