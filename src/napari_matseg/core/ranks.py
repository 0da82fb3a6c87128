"""Several processes that learn one model, as torchrun starts them: who is who, and what they must agree on."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor, nn

TIMEOUT = timedelta(minutes=30)  # longer than a validation, for which the others wait; after it they end


@dataclass(frozen=True)
class Ranks:
    """A process among those that learn together.

    Attributes
    ----------
    rank, size : int
        Which process, from 0, of how many.
    local : int
        Which on this machine; its GPU has that number.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @classmethod
    def here(cls) -> Ranks:
        """As torchrun says in the environment; alone without it."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        return cls(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and tells."""
        return self.rank == 0

    def device(self, asked: str) -> str:
        """Give the setting of the device, with the GPU that is this process's own."""
        import torch

        if self.size > 1 and (asked == "cuda" or (asked == "auto" and torch.cuda.is_available())):
            return f"cuda:{self.local}"
        return asked

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Be in touch with the others; who waits for one of them longer than `TIMEOUT` fails."""
        if self.size == 1:
            yield
            return
        import torch

        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, timeout=TIMEOUT)
        try:
            yield
        finally:
            torch.distributed.destroy_process_group()

    def share(self, network: nn.Module) -> nn.Module:
        """Network whose gradients are the mean over the processes, and that normalises over all their crops."""
        if self.size == 1:
            return network
        from torch.nn.parallel import DistributedDataParallel

        from napari_matseg.core.shared_norm import share_norms

        share_norms(network)
        place = next(network.parameters()).device
        # Static, for encoders have layers that a decoder does not ask for, and no step differs from the others.
        return DistributedDataParallel(
            network, device_ids=[place] if place.type == "cuda" else None, broadcast_buffers=False, static_graph=True
        )

    def gather(self, part: Tensor) -> Tensor:
        """Put the parts of all processes together along the first axis; gradients flow into the own part alone."""
        if self.size == 1:
            return part
        import torch

        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(self.size)]
        torch.distributed.all_gather(parts, part.detach().contiguous())
        parts[self.rank] = part
        return torch.cat(parts)

    def agree(self, flag: bool, device: torch.device) -> bool:
        """Take over what the first process decides."""
        if self.size == 1:
            return flag
        import torch

        decided = torch.tensor([int(flag)], device=device)
        torch.distributed.broadcast(decided, 0)
        return bool(decided.item())
