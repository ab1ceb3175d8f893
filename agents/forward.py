"""Running a causal transformer over rows of tokens, whatever its architecture.

:class:`Forward` gives the hidden states at chosen positions of packed rows (``packing``). What a model's code allows
is found by trial on a few tokens at first use, so that nothing is silently wrong: whether its attention takes a 4-D
mask (otherwise each continuation becomes a row of its own), and whether hidden states times output embedding are its
logits (some models scale or cap them; then the whole model runs, and the "states" are logits)."""

import functools
import inspect
import warnings
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from .packing import Row, batches_by_length, pack, prefix_tree


class Forward:
    """``model``: a transformers causal language model or base model; ``pad``: any token id to fill rows with;
    ``token_budget``: most padded tokens of one forward. ``count`` counts forwards,
    ``tokens`` the positions that they computed, filled ones included."""

    def __init__(self, model: Any, pad: int = 0, token_budget: int | None = None) -> None:
        self.model = model
        self.pad = pad
        self.token_budget = token_budget or (2048 if model.device.type == "cpu" else 65536)
        self.count = 0
        self.tokens = 0
        self._head: Any = None
        self._packs: bool | None = None

    @property
    def positions(self) -> int | None:
        """How many positions the model has; None where it sets no limit."""
        return positions_of(self.model)

    @property
    def packs(self) -> bool:
        """Whether continuations of one prompt can share its row."""
        self._try()
        return bool(self._packs)

    def weights(self) -> Hashable:
        """Changes whenever torch changes a parameter in place, or a parameter is replaced."""
        return tuple((id(p), 0 if p.is_inference() else p._version) for p in self.model.parameters())

    @contextmanager
    def inference(self) -> Iterator[None]:
        """No gradients, no dropout."""
        training = self.model.training
        if training:
            self.model.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            if training:
                self.model.train()

    def rows(
        self,
        prompts: Sequence[Sequence[int]],
        continuations: Sequence[Sequence[Sequence[int]]],
        keep_last: bool = False,
    ) -> list[Row]:
        """Rows that hold every prompt (at least one token) with its continuations, in order: one a prompt where the
        model packs, else one a continuation. ``keep_last`` as in :func:`~branchwise.agents.packing.prefix_tree`."""
        pairs = zip(prompts, continuations, strict=True)
        if self.packs:
            return [prefix_tree(prompt, own, keep_last) for prompt, own in pairs]
        return [prefix_tree(prompt, [c], keep_last) for prompt, own in pairs for c in own]

    def read(self, rows: Sequence[Row], places: Sequence[np.ndarray]) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Batches of rows: their indices, and the states at their ``places`` (row positions), one after the other
        ``[U, d]``."""
        for batch in batches_by_length([len(row) for row in rows], self.token_budget):
            packed = pack([rows[i] for i in batch], self.pad)
            width = packed.tokens.shape[1]
            if self.packs:
                # A float mask is used as it is; a boolean one would be turned into floats in every layer.
                states = self.run(packed.tokens, packed.positions, self.additive(packed.mask))
            else:
                lengths = np.array([len(rows[i]) for i in batch])
                states = self.run(
                    packed.tokens, None, self.tensor((np.arange(width) < lengths[:, None]).astype(np.int64))
                )
            flat = np.concatenate([places[i] + n * width for n, i in enumerate(batch)])
            yield batch, states.reshape(-1, states.shape[-1])[self.tensor(flat)]

    def run(
        self, tokens: np.ndarray, positions: np.ndarray | None, mask: torch.Tensor | None, cache: Any = None
    ) -> torch.Tensor:
        """One forward: states ``[N, L, d]``. ``mask``: additive ``[N, 1, L, L']`` or 1 and 0 ``[N, L']``."""
        self._try()
        self.count += 1
        self.tokens += tokens.size
        known: dict[str, Any] = {} if positions is None else {"position_ids": self.tensor(positions)}
        whole = self._head is None and self.model.base_model is not self.model
        reader = self.model if whole else self.model.base_model
        if cache is not None:
            known[_name_of_cache(type(reader))] = cache  # type: ignore[arg-type]
        out = reader(input_ids=self.tensor(tokens), attention_mask=mask, use_cache=cache is not None, **known)
        return out.last_hidden_state if hasattr(out, "last_hidden_state") else out.logits

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Float32 logits ``[…, V]`` of states ``[…, d]``."""
        return (states if self._head is None else self._head(states)).float()

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        """``array`` where the model is."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.model.device)

    def additive(self, mask: np.ndarray) -> torch.Tensor:
        """0 where ``mask`` is True, the lowest number elsewhere."""
        dtype = self.model.dtype
        hidden = self.tensor(~mask)
        return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, torch.finfo(dtype).min)

    def _try(self) -> None:
        if self._packs is not None:
            return
        self._packs = True  # while it is tried out
        with self.inference():
            self._head = _output_head(self.model)
            self._packs = self._try_packing()
        self.count = 0
        self.tokens = 0

    def _try_packing(self) -> bool:
        config = self.model.config.get_text_config()
        window = getattr(config, "sliding_window", None)
        kinds = set(getattr(config, "layer_types", None) or ["sliding_attention"])
        if window is not None and getattr(config, "use_sliding_window", True) and kinds != {"full_attention"}:
            return False  # a mask of our own would widen the window
        top = min(self.model.get_input_embeddings().weight.shape[0], 64)
        prompts = [[(7 * i + 3) % top for i in range(9)], [(5 * i + 1) % top for i in range(7)]]
        branches = [[[1 % top, 2 % top, 5 % top], [1 % top, 4 % top, 0], [6 % top, 0]], [[2 % top, 3 % top]]]
        try:
            packed = self._all_states([prefix_tree(p, own) for p, own in zip(prompts, branches, strict=True)])
            self._packs = False
            plain = self._all_states(
                [prefix_tree(p, [c]) for p, own in zip(prompts, branches, strict=True) for c in own]
            )
        except Exception as error:  # a model's code refuses a mask in its own way
            warnings.warn(
                f"continuations are read one by one: the model takes no 4-D mask ({first_line(error)})", stacklevel=5
            )
            return False
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 0.1
        if float((packed - plain).abs().max()) <= tolerance * max(1.0, float(plain.abs().max())):
            return True
        warnings.warn("continuations are read one by one: the model reads a 4-D mask in another way", stacklevel=5)
        return False

    def _all_states(self, rows: Sequence[Row]) -> torch.Tensor:
        """The states that predict each token of each continuation, in order ``[T, d]``."""
        found: dict[int, torch.Tensor] = {}
        places = [row.source for row in rows]
        for batch, states in self.read(rows, places):
            found.update(zip(batch, states.split([len(places[i]) for i in batch]), strict=True))
        return torch.cat([found[i] for i in range(len(rows))]).float()


def positions_of(model: Any) -> int | None:
    """How many positions a model of transformers has; None where it sets no limit."""
    config = getattr(model, "config", None)
    return None if config is None else getattr(config.get_text_config(), "max_position_embeddings", None)


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@functools.cache
def _name_of_cache(kind: type) -> str:
    """What a model calls the keys and values that it has read: ``past_key_values`` before transformers 5.20."""
    return "cache" if "cache" in inspect.signature(kind.forward).parameters else "past_key_values"  # type: ignore[attr-defined]


def _output_head(model: Any) -> Any:
    """The output embedding, if applied to the base model's states it gives the model's logits; None where it does not,
    or where there is none."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is None:
        return None
    tokens = torch.arange(4, device=model.device)[None] % model.get_input_embeddings().weight.shape[0]
    try:
        direct = head(model.base_model(input_ids=tokens, use_cache=False).last_hidden_state)
        whole = model(input_ids=tokens, use_cache=False).logits
    except (AttributeError, TypeError, ValueError, RuntimeError):  # there are no such states, or of another width
        return None
    return head if direct.shape == whole.shape and torch.allclose(direct, whole, atol=1e-3, rtol=1e-3) else None
