"""What a state or an action is worth, judged by a model: a transformer with one number on top.

:class:`ValueModel` reads a transcript and gives at its end the expected return from there on,
``low + (high − low) · σ(w · h + b)``. A transcript that ends with an observation has the value of a state, V(s), as in
AlphaZero-like searches over text (TS-LLM, arXiv:2309.17179); one that ends with the agent's action that of a state and
an action, Q(s, a) (QLASS, arXiv:2502.02584). Both are learned from the node means of search trees. Many actions after
one prompt share a forward, as in scoring.

:class:`CriticEvaluator` lets a search value its leaves so: by V of the page that an action led to, except that an
action that ends the episode is judged by Q alone, since what is observed then would give the outcome away. Training is
a floor up (``training.value``).

In a zero-sum game of two players a transcript is that of the player to move (at an end of who acted last), and so is
its value; the other's is the opposite. Not handled: other games, in which one number does not say what each gets.
"""

import copy
import json
from collections import Counter, OrderedDict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from ..envs.play.transcript import Transcript
from ..search.engine import is_zero_sum
from ..search.evaluation import Evaluator, Leaf
from ..search.files import recover, write_folder
from .forward import Forward
from .language_model import LanguageModel
from .pretrained import VALUE_MODEL_FILE, load_weights, pretrained, saved_settings
from .prompting import HISTORIES, History, all_turns, chat_format, history_key, history_named, prompts_and_completions

HEAD_FILE: Final = "value_head.safetensors"
SAVED: Final[dict[str, Any]] = {
    "low": (int, float),
    "high": (int, float),
    "max_prompt_tokens": (int, type(None)),
    "history": (str, type(None)),
}
REMEMBERED_VALUES: Final = 500_000


class ValueModel(nn.Module):
    """``base``: a transformers base model (``AutoModel``); ``low`` and ``high`` bound the values, and a fresh head
    gives the middle. ``counts`` has what was lost to length, as in
    :class:`~branchwise.agents.language_model.LanguageModel`."""

    def __init__(
        self,
        base: Any,
        tokenizer: Any,
        *,
        history: str | History = all_turns,
        low: float = 0.0,
        high: float = 1.0,
        max_prompt_tokens: int | None = None,
        token_budget: int | None = None,
    ) -> None:
        super().__init__()
        if not low < high:
            raise ValueError(f"low={low} and high={high}; the smallest return must lie below the largest")
        self.base = base
        self.tokenizer = tokenizer
        self.history = history_named(history)
        self.low = low
        self.high = high
        self.max_prompt_tokens = max_prompt_tokens
        self.counts: Counter[str] = Counter()
        self.head = nn.Linear(base.config.get_text_config().hidden_size, 1, device=base.device, dtype=torch.float32)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        chat_format(tokenizer)  # raises here, not in the middle of a search
        pad = tokenizer.pad_token_id
        self._forward = Forward(base, 0 if pad is None else pad, token_budget)

    @classmethod
    def from_language_model(
        cls, source: LanguageModel | str | Path, *, low: float = 0.0, high: float = 1.0, **settings: Any
    ) -> "ValueModel":
        """A critic that starts from a copy of a language model's weights and reads as much of a transcript."""
        model = source if isinstance(source, LanguageModel) else LanguageModel.load(source)
        settings = {"history": model.history, "max_prompt_tokens": model.max_prompt_tokens, **settings}
        return cls(copy.deepcopy(model.model.base_model), model.tokenizer, low=low, high=high, **settings).eval()

    @classmethod
    def load(
        cls, folder: str | Path, *, device: str | torch.device | None = None, history: str | History | None = None
    ) -> "ValueModel":
        """A critic that :meth:`save` wrote. ``history`` is needed where it was saved with a policy that has no name."""
        folder = Path(folder)
        recover(folder)
        for name in (VALUE_MODEL_FILE, HEAD_FILE, "config.json"):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"{folder} has no {name}, so it is no value model (critic); give the critic/model folder of a run "
                    "of `branchwise loop` that trains one, such as `make run`, or in Python one that ValueModel.save "
                    "wrote (ValueModel.from_language_model makes a critic of a language model)"
                )
        settings = saved_settings(folder / VALUE_MODEL_FILE, SAVED)
        settings["history"] = history or settings.get("history")
        if settings["history"] is None:
            raise ValueError(f"{folder} was saved with a history policy of its own; pass it as history=…")
        place = (
            torch.device(device) if device is not None else torch.device("cuda" if torch.cuda.is_available() else "cpu")
        )
        base = pretrained(transformers.AutoModel, folder, dtype=torch.float32)
        model = cls(base.to(place), pretrained(transformers.AutoTokenizer, folder), **settings)
        load_weights(model.head, folder / HEAD_FILE, place)
        return model.eval()

    def save(self, folder: str | Path) -> Path:
        """Write base, head, tokenizer and settings under a temporary name, then rename; a folder of that name is
        replaced."""
        settings: dict[str, Any] = {"low": self.low, "high": self.high, "max_prompt_tokens": self.max_prompt_tokens}
        settings["history"] = next((name for name, policy in HISTORIES.items() if policy is self.history), None)

        def write(target: Path) -> None:
            self.base.save_pretrained(target)
            self.tokenizer.save_pretrained(target)
            save_file({k: v.contiguous() for k, v in self.head.state_dict().items()}, target / HEAD_FILE)
            (target / VALUE_MODEL_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

        return write_folder(folder, write)

    def ids(self, transcript: Transcript) -> list[int]:
        """What is read of a transcript: ids through the end of its last turn, where the value stands."""
        prompt, action = without_last_action(transcript)
        (prompts, completions) = self._ids([prompt], [[] if action is None else [action]])
        return [*prompts[0], *(completions[0][0] if completions[0] else ())]

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """For training: the logit of each row's value, read at its last token. ``input_ids`` and ``attention_mask``
        int64 ``[N, L]``, filled up on the right; float32 ``[N]``. :meth:`targets` turns returns into what a logit
        should predict."""
        states = self.base(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        last = attention_mask.sum(dim=1) - 1
        return self._logits(states[torch.arange(len(last), device=last.device), last])

    def targets(self, returns: torch.Tensor) -> torch.Tensor:
        """Returns as probabilities, ``(r − low) / (high − low)``, clamped to [0, 1]: targets of binary
        cross-entropy."""
        return ((returns - self.low) / (self.high - self.low)).clamp(0.0, 1.0)

    def values(self, transcripts: Sequence[Transcript]) -> np.ndarray:
        """The expected return from the end of each transcript on: V(s) where it ends with an observation, Q(s, a)
        where it ends with an action; float64 ``[N]``."""
        parts = [without_last_action(transcript) for transcript in transcripts]
        found = self._values([p for p, _ in parts], [[] if a is None else [a] for _, a in parts])
        return np.array([own[0] for own in found])

    def action_values(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """For each transcript (which ends with an observation) the expected return after each candidate; float64
        ``[k]``."""
        if len(transcripts) != len(candidates):
            raise ValueError(
                f"{len(transcripts)} transcripts but {len(candidates)} lists of candidates; give one list each"
            )
        found = self._values(transcripts, candidates)
        return [own[: len(texts)] for own, texts in zip(found, candidates, strict=True)]

    def weights(self) -> Hashable:
        """Changes whenever torch changes a weight."""
        return self._forward.weights(), self.head.weight._version, self.head.bias._version

    def _ids(
        self, prompts: Sequence[Transcript], actions: Sequence[Sequence[str]]
    ) -> tuple[list[list[int]], list[list[Sequence[int]]]]:
        read = [self.history(prompt) for prompt in prompts]
        return prompts_and_completions(
            self.tokenizer, read, actions, self.max_prompt_tokens, self._forward.positions, self.counts
        )

    def _logits(self, states: torch.Tensor) -> torch.Tensor:
        return self.head(states.float())[..., 0]

    def _values(self, prompts: Sequence[Transcript], actions: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Values of the actions after each prompt; of the prompt itself where it has none."""
        ids, completions = self._ids(prompts, actions)
        continuations = [own or [()] for own in completions]
        found: list[np.ndarray] = [np.empty(0)] * len(ids)
        with self._forward.inference():
            rows = self._forward.rows(ids, continuations, keep_last=True)
            found = [np.empty(0)] * len(rows)
            places = [row.last for row in rows]
            for batch, states in self._forward.read(rows, places):
                values = self.low + (self.high - self.low) * torch.sigmoid(self._logits(states).double())
                ends = np.cumsum([len(places[i]) for i in batch])[:-1]
                for i, own in zip(batch, np.split(values.cpu().numpy(), ends), strict=True):
                    found[i] = own
        flat = np.concatenate(found) if found else np.empty(0)
        return np.split(flat, np.cumsum([len(own) for own in continuations])[:-1]) if ids else []


class CriticEvaluator(Evaluator):
    """Values leaves by a :class:`ValueModel`, and remembers values by prompt and action until its weights change.

    ``calls`` counts leaves, remembered ones included; ``computed`` those that the model read. Leaves of one prompt in
    one batch share a row."""

    def __init__(self, model: ValueModel) -> None:
        self.model = model
        self.calls = 0
        self.computed = 0
        self._values: OrderedDict[Hashable, float] = OrderedDict()
        self._weights: Hashable = None

    def forget(self) -> None:
        """Drop the remembered values."""
        self._values.clear()

    def evaluate(self, leaves: Sequence[Leaf]) -> np.ndarray:
        """The value of each leaf, for each player: float64 ``[leaves, players]``. Raises ``ValueError`` for games of
        several players but those of two with opposite returns."""
        for leaf in leaves:
            if leaf.simulator.players != 1 and not is_zero_sum(leaf.simulator):
                raise ValueError(
                    f"{type(leaf.simulator).__name__} has {leaf.simulator.players} players; a critic judges one, or "
                    "two whose returns are opposite (zero_sum)"
                )
        if (weights := self.model.weights()) != self._weights:
            self.forget()
            self._weights = weights
        self.calls += len(leaves)
        asked: dict[tuple[Hashable, bool], tuple[Transcript, dict[str | None, None]]] = {}
        keys = []
        for leaf in leaves:
            prompt, action = without_last_action(leaf.transcript[:-1] if leaf.terminal else leaf.transcript)
            key = history_key(self.model.history(prompt))
            keys.append((key, action))
            if (key, action) not in self._values:
                asked.setdefault((key, action is None), (prompt, {}))[1][action] = None
        if asked:
            prompts = [prompt for prompt, _ in asked.values()]
            actions = [[a for a in own if a is not None] for _, own in asked.values()]
            found = self.model._values(prompts, actions)
            for (key, _), (_, own), values in zip(asked, asked.values(), found, strict=True):
                self.computed += len(own)
                self._values.update({(key, a): float(v) for a, v in zip(own, values, strict=True)})
        answers = np.array([[self._values[key]] for key in keys], dtype=np.float64).reshape(-1, 1)
        if leaves and leaves[0].simulator.players == 2:
            signs = np.array([[1.0, -1.0] if leaf.player == 0 else [-1.0, 1.0] for leaf in leaves])
            answers = answers * signs
        while len(self._values) > REMEMBERED_VALUES:
            self._values.popitem(last=False)
        return answers


def without_last_action(transcript: Transcript) -> tuple[Transcript, str | None]:
    """What came before the agent's action that ends the transcript, and its text; all of it and None where the
    transcript ends with an observation."""
    if transcript and transcript[-1].is_agent:
        return transcript[:-1], transcript[-1].text
    return transcript, None
