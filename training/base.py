"""What every base model offers to the stages, whoever wrote its layers."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from training.config import EOS

GROUPS = {
    "ffn": ("gate_proj", "up_proj", "down_proj"),
    "all": ("W_pack", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}  # what an adapter may call its targets


class Base(nn.Module):
    """A decoder that the stages can train: this project's own, or one of `training.models`.

    `model` holds `embed_tokens`, `layers` and `norm`; `lm_head` makes logits. checkpointing: layers
    are computed again in the backward pass instead of keeping what they computed.
    """

    config: Any  # vocab, width, layers, heads, head_dim, mlp_width, capacity
    model: Any
    lm_head: Any
    checkpointing: bool = False
    tied: bool = False  # the head is the embedding
    source: dict[str, Any] | None = None  # config.json of the checkpoint it came from

    def hidden(
        self,
        tokens: Tensor,
        segments: Tensor | None = None,
        tasks: Tensor | None = None,
        cache: Any = None,
        trace: list[Tensor] | None = None,
    ) -> Tensor:
        """tokens: (B, T) -> (B, T, D) after the last norm.

        segments: (B, T) document numbers; a token sees only its own document (positions are
        relative, so documents need none of their own). tasks: (B,) task numbers for adapters with
        gates per task. cache: of `new_cache`; the tokens then follow what it holds. trace receives
        the residual stream after the embedding and after every layer.
        """
        raise NotImplementedError

    def new_cache(self, batch: int, capacity: int, first: Tensor | None = None) -> Any:
        """An empty cache for `batch` rows of up to `capacity` positions; `first` as in Cache."""
        raise NotImplementedError

    def adaptable(self, targets: str | Sequence[str]) -> Iterator[tuple[str, nn.Module, str]]:
        """(`layers.0.mlp.gate_proj`, parent module, attribute) of the layers' linears, in order.

        targets: names of linears, `ffn` or `all` (every linear but the head). Names that this model
        does not have are passed over.
        """
        names = (targets,) if isinstance(targets, str) else targets
        wanted = dict.fromkeys(each for name in names for each in GROUPS.get(name, (name,)))
        for i, layer in enumerate(self.model.layers):
            for part in ("self_attn", "mlp"):
                module = getattr(layer, part)
                for name in wanted:
                    if isinstance(getattr(module, name, None), nn.Module):
                        yield f"layers.{i}.{part}.{name}", module, name

    def forward(self, tokens: Tensor, segments: Tensor | None = None, tasks=None) -> Tensor:
        """(B, T) -> logits (B, T, V)"""
        return self.lm_head(self.hidden(tokens, segments, tasks))

    @torch.no_grad()
    def generate(
        self, prompt: list[int], count: int, task: int | None = None, stop: int | None = EOS
    ) -> tuple[list[int], list[float]]:
        """Greedy tokens after `prompt`, and by how much each beat the second best (in logits).

        Ends after `count` tokens, or with `stop` (which is part of the answer) if given.
        """
        device = self.lm_head.weight.device
        count = min(count, self.config.capacity - len(prompt))
        cache = self.new_cache(1, len(prompt) + count)
        tasks = None if task is None else torch.tensor([task], device=device)
        new = torch.tensor([prompt], device=device)
        answer: list[int] = []
        margins: list[float] = []
        while len(answer) < count:
            logits = self.lm_head(self.hidden(new, tasks=tasks, cache=cache)[:, -1]).float()
            best = logits.topk(2).values[0]
            answer.append(int(logits.argmax(-1)))
            margins.append(float(best[0] - best[1]))
            if answer[-1] == stop:
                break
            new = torch.tensor([[answer[-1]]], device=device)
        return answer, margins
