"""A local transformers model as a policy: it proposes actions and scores given ones, always in batches.

*Scoring* packs a prompt and all its candidates into one row: the prompt once, then the candidates as the branches of
a prefix tree (candidates that begin alike share those tokens), under a 4-D mask that shows each branch the prompt and
its own past, with positions that restart after the prompt. Only positions that predict a candidate's token are
projected on the vocabulary, and log-probabilities are taken in float32. The score of a candidate is the sum over its
tokens, end of turn included: ``log π(a | s) = Σ_t log π(a_t | s, a_<t)``. It equals one forward a candidate to 1e-4
in float32; models whose attention takes no such mask are found by a trial and are scored candidate by candidate.

*Proposing* runs the prompts once, repeats their key-value cache for each sample, and draws tokens by inverting the
cumulative distribution at uniform numbers that were drawn for each transcript in turn, so that samples depend neither
on how transcripts are batched nor on torch's random state. ``Proposal.logp`` is the model's own log-probability, at
temperature 1 and without nucleus, so that it means the same as a score.

Scores are remembered by prompt and candidates, until the weights change.

Not handled: encoder-decoder models, images, sharing of prompts among the rows of one batch.
"""

import json
import os
import shutil
import tempfile
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transformers
from torch.nn import functional

from ..search.policy import Proposal
from ..search.transcript import Transcript
from .packing import Row, batches_by_length, pack, prefix_tree
from .prompting import HISTORIES, PLAIN_TEMPLATE, History, all_turns, chat_format, history_key, history_named

SETTINGS_FILE: Final = "branchwise.json"
REMEMBERED_SCORES: Final = 200_000
TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


class LanguageModel:
    """A causal language model and its tokenizer, as a :class:`~branchwise.search.policy.Policy`.

    ``history`` is a history policy or its name (``prompting.HISTORIES``). ``temperature`` (0: greedy), ``top_p`` and
    ``max_new_tokens`` rule proposals alone. ``max_prompt_tokens`` defaults to what the model's positions leave beside
    ``max_new_tokens``. ``token_budget`` bounds the padded tokens of one forward.

    ``calls`` counts prompts asked about, remembered ones included; ``forwards`` forwards really made; ``computed``
    prompts really scored or sampled from; ``counts`` what was lost: ``truncated_prompts``, ``dropped_turns``,
    ``cut_observations``, ``cut_candidates``, ``unfinished_proposals``, ``unusable_proposals``."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        history: str | History = all_turns,
        temperature: float = 1.0,
        top_p: float = 1.0,
        max_new_tokens: int = 64,
        max_prompt_tokens: int | None = None,
        token_budget: int | None = None,
        name: str = "",
    ) -> None:
        if temperature < 0:
            raise ValueError(f"temperature={temperature}; take 0 for greedy or a positive number")
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p={top_p}; take a number in (0, 1], where 1 keeps every token")
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={max_new_tokens}; an action needs at least 1 token, its end of turn")
        self.model = model
        self.tokenizer = tokenizer
        self.history = history_named(history)
        self.temperature = temperature
        self.top_p = top_p
        self.max_new_tokens = max_new_tokens
        limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._positions: int | None = limit
        room = None if limit is None else limit - max_new_tokens
        if room is not None and room < 1:
            raise ValueError(
                f"max_new_tokens={max_new_tokens} leaves no room for a prompt: the model has {limit} positions"
            )
        if max_prompt_tokens is not None and max_prompt_tokens < 1:
            raise ValueError(f"max_prompt_tokens={max_prompt_tokens}; a prompt needs at least 1 token")
        self.max_prompt_tokens = min((m for m in (max_prompt_tokens, room) if m is not None), default=None)
        self.token_budget = token_budget or (4096 if model.device.type == "cpu" else 65536)
        self.name = name
        self.calls = 0
        self.forwards = 0
        self.computed = 0
        self.counts: Counter[str] = Counter()
        self._scores: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._weights: Hashable = None
        self._traits: _Traits | None = None
        chat_format(tokenizer)  # raises here, not in the middle of a search

    @classmethod
    def load(
        cls,
        path_or_id: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        **settings: Any,
    ) -> "LanguageModel":
        """A model from a folder or the Hugging Face hub.

        ``device`` defaults to a GPU where there is one, ``dtype`` to float32 on a CPU and bfloat16 elsewhere.
        ``settings`` are the constructor's; those that :meth:`save` wrote beside the model are the defaults. A
        tokenizer without a chat template gets :data:`~branchwise.agents.prompting.PLAIN_TEMPLATE`, with a warning.
        Raises ``FileNotFoundError`` or ``ValueError`` that say what is missing."""
        source = str(path_or_id)
        folder = Path(path_or_id)
        if folder.is_dir():
            _check_folder(folder)
        elif folder.exists() or source.startswith((".", "/", "~")) or source.count("/") > 1:
            raise FileNotFoundError(
                f"{source!r} is not a folder with a model; give a folder that LanguageModel.save wrote"
            )
        place = (
            torch.device(device) if device is not None else torch.device("cuda" if torch.cuda.is_available() else "cpu")
        )
        kind = dtype if dtype is not None else (torch.float32 if place.type == "cpu" else torch.bfloat16)
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(source)
            model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=kind)
        except OSError as error:
            raise FileNotFoundError(
                f"no model {source!r}: it is no folder here, and the hub did not give it ({_first_line(error)}). Without "
                "a network give the path of a downloaded folder; with one, check the id, and log in if the model is gated"
            ) from error
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"{source!r} is not a causal language model that transformers {transformers.__version__} can load: "
                f"{_first_line(error)}"
            ) from error
        if not tokenizer.chat_template:
            tokenizer.chat_template = PLAIN_TEMPLATE
            warnings.warn(
                f"the tokenizer of {source!r} has no chat template; turns are written one a line. Set "
                "tokenizer.chat_template if the model was trained on another format",
                stacklevel=2,
            )
        saved = folder / SETTINGS_FILE
        stored = json.loads(saved.read_text(encoding="utf-8")) if saved.is_file() else {}
        settings = {"name": folder.name if folder.is_dir() else source, **stored, **settings}
        return cls(model.to(place).eval(), tokenizer, **settings)

    def save(self, folder: str | Path) -> Path:
        """Write model, tokenizer and settings as a Hugging Face folder: under a temporary name first, then renamed,
        so that ``folder`` is never half written. A folder of that name is replaced. A history policy that is not one
        of the named ones is not saved."""
        settings: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_new_tokens": self.max_new_tokens,
            "max_prompt_tokens": self.max_prompt_tokens,
        }
        if named := [name for name, policy in HISTORIES.items() if policy is self.history]:
            settings["history"] = named[0]

        def write(target: Path) -> None:
            self.model.save_pretrained(target)
            self.tokenizer.save_pretrained(target)
            (target / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

        return write_folder(Path(folder), write)

    def forget(self) -> None:
        """Drop the remembered scores. Called by itself when a parameter was changed in place or replaced; call it
        after a change that torch does not notice (through ``.data``)."""
        self._scores.clear()

    def score(self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """For each transcript ``log π(candidate | transcript)``, end of turn included: float64 ``[k]``."""
        _check_lengths(transcripts, candidates)
        self.calls += len(transcripts)
        self._notice_weights()
        read = [self.history(transcript) for transcript in transcripts]
        keys = [(history_key(turns), tuple(texts)) for turns, texts in zip(read, candidates, strict=True)]
        missing = [key for key in dict.fromkeys(keys) if key not in self._scores]
        if missing:
            where = {key: i for i, key in reversed(list(enumerate(keys)))}
            rows = self._token_logps([read[where[key]] for key in missing], [key[1] for key in missing])
            for key, (_, logps) in zip(missing, rows, strict=True):
                self._scores[key] = np.array([values.sum() for values in logps])
        answers = []
        for key in keys:
            self._scores.move_to_end(key)
            answers.append(self._scores[key].copy())
        while len(self._scores) > REMEMBERED_SCORES:
            self._scores.popitem(last=False)
        return answers

    def score_tokens(
        self, transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]
    ) -> list[list[Proposal]]:
        """As :meth:`score`, with ids and log-probability of every token (for reference log-probabilities that are
        logged). Not remembered."""
        _check_lengths(transcripts, candidates)
        self.calls += len(transcripts)
        rows = self._token_logps([self.history(transcript) for transcript in transcripts], candidates)
        return [
            [
                Proposal(text, float(values.sum()), tuple(ids), tuple(values.tolist()))
                for text, ids, values in zip(texts, completions, logps, strict=True)
            ]
            for texts, (completions, logps) in zip(candidates, rows, strict=True)
        ]

    def propose(self, transcripts: Sequence[Transcript], n: int, rng: np.random.Generator) -> list[list[Proposal]]:
        """``n`` sampled actions for each transcript; one, the greedy one, at temperature 0.

        Empty, undecodable and unfinished texts (no end of turn within ``max_new_tokens``) are dropped and counted. The
        generator serves the transcripts in turn, so two calls on two halves sample what one call on the whole does.
        """
        _check_number(n)
        return self._propose(transcripts, n, lambda: rng.random((len(transcripts), n, self.max_new_tokens)))

    def propose_each(
        self, transcripts: Sequence[Transcript], n: int, rngs: Sequence[np.random.Generator]
    ) -> list[list[Proposal]]:
        """As :meth:`propose`, with a generator for each transcript."""
        _check_number(n)
        if len(rngs) != len(transcripts):
            raise ValueError(f"{len(rngs)} generators for {len(transcripts)} transcripts; give one each")
        return self._propose(transcripts, n, lambda: np.stack([rng.random((n, self.max_new_tokens)) for rng in rngs]))

    def propose_best(self, transcripts: Sequence[Transcript]) -> list[list[Proposal]]:
        """The greedy action for each transcript (none where it is unusable), whatever the temperature."""
        return self._propose(transcripts, 1, None)

    def _propose(
        self, transcripts: Sequence[Transcript], n: int, draw: Callable[[], np.ndarray] | None
    ) -> list[list[Proposal]]:
        self.calls += len(transcripts)
        if not transcripts:
            return []
        form = chat_format(self.tokenizer)
        prompts = [
            form.prompt_ids(self.history(transcript), self.max_prompt_tokens, self.counts) for transcript in transcripts
        ]
        uniforms = draw() if draw is not None and self.temperature > 0 else None
        samples = n if uniforms is not None else 1
        self.computed += len(prompts)
        answers: list[list[Proposal]] = [[] for _ in prompts]
        costs = [samples * (len(prompt) + self.max_new_tokens) for prompt in prompts]
        with self._inference():
            for batch in batches_by_length(costs, 4 * self.token_budget):
                own = None if uniforms is None else uniforms[batch]
                sampled = self._sample([prompts[i] for i in batch], samples, own)
                for i, texts in zip(batch, sampled, strict=True):
                    answers[i] = [p for ids, logps in texts if (p := self._proposal(ids, logps)) is not None]
        return answers

    def _proposal(self, ids: list[int], logps: list[float]) -> Proposal | None:
        if ids[-1] not in self._stops():
            self.counts["unfinished_proposals"] += 1
            return None
        known = max(ids) < len(self.tokenizer)
        text = self.tokenizer.decode(ids[:-1], skip_special_tokens=True).strip() if known else ""
        if not text or "\ufffd" in text:
            self.counts["unusable_proposals"] += 1
            return None
        return Proposal(text, float(np.sum(logps)), tuple(ids), tuple(logps))

    def _stops(self) -> set[int]:
        return {chat_format(self.tokenizer).end_ids[-1], self.tokenizer.eos_token_id} - {None}

    def _notice_weights(self) -> None:
        weights = tuple((id(p), 0 if p.is_inference() else p._version) for p in self.model.parameters())
        if weights != self._weights:
            self.forget()
            self._weights = weights

    @contextmanager
    def _inference(self) -> Iterator[None]:
        training = self.model.training
        if training:
            self.model.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            if training:
                self.model.train()

    def _token_logps(
        self, read: Sequence[Transcript], candidates: Sequence[Sequence[str]]
    ) -> list[tuple[list[list[int]], list[np.ndarray]]]:
        """For each transcript the candidates' ids, and the float64 log-probability of each of those ids."""
        form = chat_format(self.tokenizer)
        prompts: list[list[int]] = []
        completions: list[list[list[int]]] = []
        for turns, texts in zip(read, candidates, strict=True):
            ids = [list(form.completion_ids(text)) for text in texts]
            limit = self.max_prompt_tokens
            if self._positions is not None and limit is not None:
                most = self._positions // 2
                if any(len(c) > most for c in ids):
                    self.counts["cut_candidates"] += sum(len(c) > most for c in ids)
                    ids = [c[:most] for c in ids]
                limit = min(limit, self._positions - max(map(len, ids), default=0))
            prompts.append(form.prompt_ids(turns, limit, self.counts))
            completions.append(ids)
        self.computed += len(prompts)
        flat: list[np.ndarray] = [np.empty(0)] * len(prompts)
        with self._inference():
            if self.traits.packs:
                rows = [prefix_tree(p, c) for p, c in zip(prompts, completions, strict=True)]
                for batch in batches_by_length([len(row) for row in rows], self.token_budget):
                    for i, values in zip(batch, self._packed([rows[i] for i in batch]), strict=True):
                        flat[i] = values
            else:
                flat = self._one_by_one(prompts, completions)
        return [
            (ids, np.split(values, np.cumsum([len(c) for c in ids])[:-1]) if ids else [])
            for ids, values in zip(completions, flat, strict=True)
        ]

    def _packed(self, rows: Sequence[Row]) -> list[np.ndarray]:
        packed = pack(rows, self._pad())
        # Float masks are taken by the attention as they are; a boolean one is turned into floats in every layer.
        width = packed.tokens.shape[1]
        states = self._states(packed.tokens, packed.positions, self._additive(packed.mask))
        # Each predicting position is projected on the vocabulary once, however many candidates go on from it.
        sources = [np.asarray(row.source, dtype=np.int64) + i * width for i, row in enumerate(rows)]
        used, place = np.unique(np.concatenate(sources), return_inverse=True)
        targets = np.concatenate([np.asarray(row.target, dtype=np.int64) for row in rows])
        chosen = self._gather(states.reshape(-1, states.shape[-1])[self._tensor(used)], place, targets)
        return np.split(chosen, np.cumsum([len(row.source) for row in rows])[:-1])

    def _gather(self, states: torch.Tensor, place: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Log-probability of ``targets[t]`` after ``states[place[t]]``: float64 ``[T]``."""
        if not len(targets):
            return np.empty(0)
        logits = self._logits(states)
        where = self._tensor(place)
        values = logits[where, self._tensor(targets)] - torch.logsumexp(logits, dim=-1)[where]
        return values.cpu().numpy().astype(np.float64)

    def _one_by_one(self, prompts: Sequence[list[int]], completions: Sequence[list[list[int]]]) -> list[np.ndarray]:
        """Every prompt with every candidate as a row of its own: the slow path, right for any causal model."""
        rows = [(i, prompt, c) for i, prompt in enumerate(prompts) for c in completions[i]]
        values: list[np.ndarray] = [np.empty(0)] * len(rows)
        for batch in batches_by_length([len(prompt) + len(c) for _, prompt, c in rows], self.token_budget):
            tokens, seen = self._padded([rows[r][1] + rows[r][2] for r in batch])
            states = self._states(tokens, None, self._tensor(seen))
            for row, r in enumerate(batch):
                _, prompt, c = rows[r]
                span = slice(len(prompt) - 1, len(prompt) + len(c) - 1)
                values[r] = self._gather(states[row, span], np.arange(len(c)), np.asarray(c))
        flat: list[list[np.ndarray]] = [[] for _ in prompts]
        for (i, _, _), own in zip(rows, values, strict=True):
            flat[i].append(own)
        return [np.concatenate(own) if own else np.empty(0) for own in flat]

    def _sample(
        self, prompts: Sequence[list[int]], n: int, uniforms: np.ndarray | None
    ) -> list[list[tuple[list[int], list[float]]]]:
        """Token ids and log-probabilities of ``n`` samples a prompt; ``uniforms`` float64 ``[prompts, n,
        max_new_tokens]``.

        The samples of one prompt are branches of one row, as in scoring, so that its cache is never copied for them."""
        count, steps = len(prompts), self.max_new_tokens
        stops = self._stops()
        samples: list[list[tuple[list[int], list[float]]]] = [[([], []) for _ in range(n)] for _ in range(count)]
        ended = np.zeros((count, n), dtype=bool)
        lengths = np.array([len(prompt) for prompt in prompts])
        tokens, seen = self._padded(prompts)
        packs = self.traits.packs
        cache = transformers.DynamicCache(config=self.model.config) if packs else None
        states = self._states(tokens, None, None if packs else self._tensor(seen), cache)
        states = states[self._tensor(np.arange(count)), self._tensor(lengths - 1)]
        logits = self._logits(states)[:, None].expand(-1, n, -1)
        active = np.arange(count)
        visible = seen.astype(bool)[:, None, None, :].repeat(n, axis=2)
        for step in range(steps):
            drawn, logps = self._draw(logits, None if uniforms is None else uniforms[active, :, step])
            for row, i in enumerate(active):
                for j in range(n):
                    if not ended[i, j]:
                        samples[i][j][0].append(int(drawn[row, j]))
                        samples[i][j][1].append(float(logps[row, j]))
                        ended[i, j] = drawn[row, j] in stops
            keep = np.flatnonzero(~ended[active].all(axis=1))
            if not len(keep) or step + 1 == steps:
                break
            if cache is None:
                active = active[keep]
                logits = self._next_logits([prompts[i] + ids for i in active for ids, _ in samples[i]]).unflatten(
                    0, (-1, n)
                )
                continue
            if len(keep) < len(active):
                active, drawn, visible = active[keep], drawn[keep], visible[keep]
                cache.batch_select_indices(self._tensor(keep))
            own = np.broadcast_to(np.eye(n, dtype=bool), (len(active), 1, n, n))
            visible = np.concatenate([visible, own], axis=3)
            places = np.repeat(lengths[active][:, None] + step, n, axis=1)
            logits = self._logits(self._states(drawn, places, self._additive(visible), cache))
        return samples

    def _next_logits(self, sequences: Sequence[list[int]]) -> torch.Tensor:
        tokens, seen = self._padded(sequences)
        states = self._states(tokens, None, self._tensor(seen))
        ends = np.array([len(sequence) - 1 for sequence in sequences])
        return self._logits(states[self._tensor(np.arange(len(sequences))), self._tensor(ends)])

    def _draw(self, logits: torch.Tensor, uniforms: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """A token a row, by inverting the cumulative distribution at ``uniforms`` (None: the likeliest), and its
        log-probability at temperature 1; ``logits`` ``[..., V]``, both results ``[...]``."""
        logps = functional.log_softmax(logits, dim=-1)
        if uniforms is None:
            drawn = logits.argmax(dim=-1)
        else:
            weights = torch.softmax(logits / self.temperature, dim=-1)
            if self.top_p < 1:
                order = weights.sort(dim=-1, descending=True)
                before = order.values.cumsum(dim=-1) - order.values
                kept = order.values.masked_fill(before >= self.top_p, 0.0)
                weights = torch.zeros_like(weights).scatter(-1, order.indices, kept)
            cumulative = weights.cumsum(dim=-1, dtype=torch.float64)
            thresholds = self._tensor(uniforms)[..., None] * cumulative[..., -1:]
            drawn = torch.searchsorted(cumulative, thresholds, right=True)[..., 0]
            drawn = drawn.clamp(max=logits.shape[-1] - 1)
        return drawn.cpu().numpy(), logps.gather(-1, drawn[..., None])[..., 0].cpu().numpy()

    @property
    def traits(self) -> "_Traits":
        """What the model's code allows, found by trial on a few tokens at first use."""
        if self._traits is None:
            with self._inference():
                self._traits = _Traits(head=_output_head(self.model), packs=True)
                self._traits = _Traits(self._traits.head, self._packs())
        return self._traits

    def _packs(self) -> bool:
        """Whether packed scores equal plain ones on a small case. A window narrower than the prompts rules packing out
        too, since a full mask would widen it."""
        config = self.model.config.get_text_config()
        window = getattr(config, "sliding_window", None)
        if window is not None and set(getattr(config, "layer_types", None) or ["sliding_attention"]) != {
            "full_attention"
        }:
            return False
        top = min(self.model.get_input_embeddings().weight.shape[0], 64)
        prompt = [(7 * i + 3) % top for i in range(9)]
        continuations = [[1 % top, 2 % top, 5 % top], [1 % top, 4 % top], [6 % top]]
        try:
            packed = self._packed([prefix_tree(prompt, continuations), prefix_tree(prompt[2:], continuations[1:])])
            plain = self._one_by_one([prompt, prompt[2:]], [continuations, continuations[1:]])
        except Exception as error:  # a model's code refuses the mask in its own way
            warnings.warn(
                f"candidates are scored one by one: the model takes no 4-D mask ({_first_line(error)})", stacklevel=4
            )
            return False
        finally:
            self.forwards = 0
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 0.3
        if max(np.abs(a - b).max() for a, b in zip(packed, plain, strict=True)) < tolerance:
            return True
        warnings.warn("candidates are scored one by one: the model reads a 4-D mask in another way", stacklevel=4)
        return False

    def _states(
        self, tokens: np.ndarray, positions: np.ndarray | None, mask: torch.Tensor | None, cache: Any = None
    ) -> torch.Tensor:
        """One forward: last hidden states ``[N, L, d]``, or logits ``[N, L, V]`` where the model's own code makes
        them."""
        self.forwards += 1
        known: dict[str, Any] = {} if positions is None else {"position_ids": self._tensor(positions)}
        if cache is not None:
            known["past_key_values"] = cache
        run = self.model if self.traits.head is None else self.model.base_model
        out = run(input_ids=self._tensor(tokens), attention_mask=mask, use_cache=cache is not None, **known)
        return out.logits if self.traits.head is None else out.last_hidden_state

    def _logits(self, states: torch.Tensor) -> torch.Tensor:
        head = self.traits.head
        return (states if head is None else head(states)).float()

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.model.device)

    def _additive(self, mask: np.ndarray) -> torch.Tensor:
        dtype = self.model.dtype
        allowed = self._tensor(mask)
        return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(
            ~allowed, torch.finfo(dtype).min
        )

    def _pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return pad if pad is not None else 0

    def _padded(self, sequences: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Sequences filled up on the right: ids and 2-D mask, int64 ``[N, L]``."""
        shape = (len(sequences), max(map(len, sequences)))
        tokens, seen = np.full(shape, self._pad(), dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for i, sequence in enumerate(sequences):
            tokens[i, : len(sequence)] = sequence
            seen[i, : len(sequence)] = 1
        return tokens, seen


@dataclass(frozen=True, slots=True)
class _Traits:
    """``head`` projects hidden states on the vocabulary (None: only the whole model can); ``packs``: 4-D masks work."""

    head: Any
    packs: bool


def write_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """Have ``write`` fill a folder beside ``folder``, then give it that name, in place of what bore it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        write(fresh)
        fresh.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
            os.replace(folder, old)
            os.replace(fresh, folder)
            shutil.rmtree(old)
        else:
            os.replace(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _output_head(model: Any) -> Any:
    """The model's output embedding, if applied to the base model's states it gives the model's logits (some models
    scale or cap them afterwards)."""
    head = model.get_output_embeddings()
    if head is None:
        return None
    tokens = torch.arange(4, device=model.device)[None] % model.get_input_embeddings().weight.shape[0]
    try:
        direct = head(model.base_model(input_ids=tokens, use_cache=False).last_hidden_state)
        whole = model(input_ids=tokens, use_cache=False).logits
    except (AttributeError, TypeError, ValueError):
        return None
    return head if direct.shape == whole.shape and torch.allclose(direct, whole, atol=1e-3, rtol=1e-3) else None


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} has no config.json, so it is no model folder; give one that save_pretrained wrote"
        )
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise FileNotFoundError(
            f"{folder} has a model but no tokenizer; save it there too (tokenizer.save_pretrained), or use LanguageModel.save"
        )
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise FileNotFoundError(f"{folder} has no weights (*.safetensors); was it written to the end?")


def _check_number(n: int) -> None:
    if n < 1:
        raise ValueError(f"n={n}; ask for at least one proposal")


def _check_lengths(transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> None:
    if len(transcripts) != len(candidates):
        raise ValueError(
            f"{len(transcripts)} transcripts but {len(candidates)} lists of candidates; give one list each"
        )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
