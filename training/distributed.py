"""Several processes by `torchrun`: FSDP2 shards the model, rank 0 writes; alone, all of it is empty.

Every rank draws the same batch, works through its own share of the rows and weighs its loss by the
whole batch, so the run equals that of one process. Weights, gradients and optimiser states are
sharded per layer (`torch.distributed.fsdp.fully_shard`); states are gathered when they are saved
(`torch.distributed.checkpoint.state_dict`), so one process can go on where eight stopped.
"""

import os
import sys
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

WAIT = timedelta(hours=2)  # for a rank that evaluates, compiles or writes


def start(device: str) -> None:
    """Joins the other processes where `torchrun` started this one; nothing otherwise.

    device: cpu, cuda or auto, as a preset says; every rank takes the GPU of its local number.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return
    backend = "gloo"
    if device != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"  # what ranks tell each other besides tensors goes by gloo
    dist.init_process_group(backend, timeout=WAIT)


def stop() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the process that writes and speaks."""
    return rank() == 0


def say(text: str) -> None:
    """A line on standard error, by rank 0 only."""
    if is_main():
        print(text, file=sys.stderr, flush=True)


def wait() -> None:
    """Until all ranks are here; what rank 0 wrote before can be read after."""
    if world() > 1:
        dist.barrier()


def agree(numbers: list[float]) -> list[float]:
    """Rank 0's numbers on every rank: clocks differ, decisions must not."""
    if world() == 1:
        return numbers
    shared = torch.tensor(numbers, dtype=torch.float64)
    dist.broadcast(shared, 0)
    return shared.tolist()


def total(numbers: list[float]) -> list[float]:
    """Sums over the ranks."""
    if world() == 1:
        return numbers
    shared = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(shared)
    return shared.tolist()


def is_sharded(parameters: Iterable[Tensor]) -> bool:
    return any(_sharded(p) for p in parameters)


def whole(tensor: Tensor) -> Tensor:
    """A tensor with all its shards, on every rank; a plain tensor is itself."""
    return tensor.full_tensor() if _sharded(tensor) else tensor  # pyright: ignore


def _sharded(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")  # a DTensor; its module is slow to import


def like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """A whole tensor placed as `pattern` is: on its device and, where that is sharded, in shards."""
    tensor = tensor.to(pattern.device, pattern.dtype)
    if not _sharded(pattern):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(pattern, DTensor)
    return distribute_tensor(tensor, pattern.device_mesh, pattern.placements)


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The list of decoder layers of a model. Raises ValueError where there is none."""
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and name.split(".")[-1] in ("layers", "h"):
            return module
    raise ValueError(f"{type(model).__name__} has no list of layers to shard")


def shard(model: nn.Module, device: torch.device, bf16: bool, compiled: bool = False) -> nn.Module:
    """Shards a model over all ranks, layer by layer, in place; alone it is only moved to `device`.

    All ranks must hold the same values. bf16: layers are gathered in bf16 and their gradients summed
    in f32; embedding, last norm and head stay f32, as autocast would have them. compiled: every layer
    is compiled for itself, because shards are gathered between them.
    """
    if world() == 1:
        return model.to(device)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import (
        MixedPrecisionPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    mesh = init_device_mesh(device.type, (world(),))
    policy = MixedPrecisionPolicy()
    if bf16:
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for layer in layers_of(model):
        if compiled:
            layer.compile()
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    head = model.lm_head
    inside = {id(p) for name, p in model.named_parameters() if not name.startswith("lm_head.")}
    own = {id(p) for p in head.parameters()} if isinstance(head, nn.Module) else set()
    if own and not own & inside:
        fully_shard(head, mesh=mesh)  # pyright: ignore
    # A tied head is called after `hidden` and finds the embedding gathered: it stays so till backward.
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    register_fsdp_forward_method(model, "hidden")
    return model


def reshard(model: nn.Module) -> None:
    """Forgets gathered weights: needed before sharded ones are changed by hand."""
    if world() == 1:
        return
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def gather_weights(model: nn.Module, frozen: bool = True) -> dict[str, Tensor]:
    """All weights on the CPU of rank 0 (other ranks: nothing). frozen: those that do not train too."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(
        full_state_dict=True, cpu_offload=True, ignore_frozen_params=not frozen
    )
    return dict(get_model_state_dict(model, options=options))  # pyright: ignore


def gather_optimizers(
    model: nn.Module, optimizers: Iterable[torch.optim.Optimizer]
) -> dict[str, Any]:
    """States of the optimisers by parameter name, on the CPU of rank 0 (other ranks: nothing)."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_optimizer_state_dict(model, tuple(optimizers), options=options)


def scatter(
    model: nn.Module,
    optimizers: Iterable[torch.optim.Optimizer],
    weights: dict[str, Tensor],
    states: dict[str, Any],
) -> None:
    """Puts gathered weights (of what trains) and optimiser states back, whatever the world's size.

    Raises ValueError when the weights are not those of what trains in this model.
    """
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        set_model_state_dict,
        set_optimizer_state_dict,
    )

    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    expected = model.state_dict().keys() - frozen
    if weights.keys() != expected:
        odd = sorted(weights.keys() ^ expected)
        raise ValueError(f"the saved state is of another model or stage: {', '.join(odd[:4])} ...")
    options = StateDictOptions(full_state_dict=True, strict=False)
    set_model_state_dict(model, dict(weights), options=options)
    options = StateDictOptions(full_state_dict=True)
    set_optimizer_state_dict(model, tuple(optimizers), states, options=options)
