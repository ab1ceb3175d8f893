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
temperature 1 and without nucleus, so that it means the same as a score. It is that of the ids by which the text is
written (``prompting.completion_ids``), which training reads: where others were sampled (a word in pieces, blanks
around it) the text is scored once more, in one batch, and counted.

Scores are remembered by prompt and candidates, until the weights change.

Not handled: encoder-decoder models, images, sharing of prompts among the rows of one batch.
"""

import json
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transformers
from torch.nn import functional

from ..envs.play.policy import Proposal
from ..envs.play.transcript import Transcript
from ..search.files import recover, write_folder
from .forward import Forward
from .packing import batches_by_length
from .pretrained import VALUE_MODEL_FILE, pretrained, saved_settings
from .prompting import (
    HISTORIES,
    PLAIN_TEMPLATE,
    History,
    all_turns,
    chat_format,
    history_key,
    history_named,
    prompts_and_completions,
)

SETTINGS_FILE: Final = "branchwise.json"
SAVED: Final[dict[str, Any]] = {
    "temperature": (int, float),
    "top_p": (int, float),
    "max_new_tokens": int,
    "max_prompt_tokens": (int, type(None)),
    "history": str,
}
REMEMBERED_SCORES: Final = 200_000
MODEL_CURE: Final = (
    "give the folder of a Hugging Face model or an id on its hub; `make run` makes one in runs/web_shop/base/model, "
    "`branchwise train --out` another, and in Python LanguageModel.save"
)
TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


class LanguageModel:
    """A causal language model and its tokenizer, as a :class:`~branchwise.envs.play.policy.Policy`.

    ``history`` is a history policy or its name (``prompting.HISTORIES``). ``temperature`` (0: greedy), ``top_p`` and
    ``max_new_tokens`` rule proposals alone. ``max_prompt_tokens`` defaults to what the model's positions leave beside
    ``max_new_tokens``. ``token_budget`` bounds the padded tokens of one forward.

    ``calls`` counts prompts asked about, remembered ones included; ``forwards`` forwards really made; ``computed``
    prompts really scored or sampled from; ``counts`` what was lost: ``truncated_prompts``, ``dropped_turns``,
    ``cut_observations``, ``cut_candidates``, ``unfinished_proposals``, ``unusable_proposals``; and
    ``rescored_proposals``, those that were sampled as other tokens than their text is written in."""

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
        pad = tokenizer.pad_token_id
        self._forward = Forward(model, 0 if pad is None else pad, token_budget)
        limit = self._forward.positions
        room = None if limit is None else limit - max_new_tokens
        if room is not None and room < 1:
            raise ValueError(
                f"max_new_tokens={max_new_tokens} leaves no room for a prompt: the model has {limit} positions"
            )
        if max_prompt_tokens is not None and max_prompt_tokens < 1:
            raise ValueError(f"max_prompt_tokens={max_prompt_tokens}; a prompt needs at least 1 token")
        self.max_prompt_tokens = min((m for m in (max_prompt_tokens, room) if m is not None), default=None)
        self.name = name
        self.calls = 0
        self.computed = 0
        self.counts: Counter[str] = Counter()
        self._scores: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._weights: Hashable = None
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
        recover(folder)
        if folder.exists() or source.startswith((".", "/", "~")) or source.count("/") > 1:
            check_model_folder(source)
        place = (
            torch.device(device) if device is not None else torch.device("cuda" if torch.cuda.is_available() else "cpu")
        )
        kind = dtype if dtype is not None else (torch.float32 if place.type == "cpu" else torch.bfloat16)
        tokenizer = pretrained(transformers.AutoTokenizer, source)
        model = pretrained(transformers.AutoModelForCausalLM, source, dtype=kind)
        if any(name.endswith("Classification") for name in model.config.architectures or ()):
            raise ValueError(
                f"{source!r} was saved as {model.config.architectures[0]}, a classifier or reward model, which has no "
                f"words; {MODEL_CURE}"
            )
        if not tokenizer.chat_template:
            tokenizer.chat_template = PLAIN_TEMPLATE
            warnings.warn(
                f"the tokenizer of {source!r} has no chat template; turns are written one a line. Set "
                "tokenizer.chat_template if the model was trained on another format",
                stacklevel=2,
            )
        saved = folder / SETTINGS_FILE
        stored = saved_settings(saved, SAVED) if saved.is_file() else {}
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

        return write_folder(folder, write)

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
            for key, (ids, logps) in zip(missing, rows, strict=True):
                self._scores[key] = np.add.reduceat(logps, _starts(ids)) if ids else np.empty(0)
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
        return _as_proposals(candidates, rows)

    def propose(
        self, transcripts: Sequence[Transcript], n: int, rngs: Sequence[np.random.Generator]
    ) -> list[list[Proposal]]:
        """``n`` sampled actions for each transcript; one, the greedy one, at temperature 0.

        Empty, undecodable and unfinished texts (no end of turn within ``max_new_tokens``) are dropped and counted. Each
        transcript is sampled with its own generator; one that comes twice serves them in turn, so two calls on two
        halves sample what one call on the whole does.
        """
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
        with self._forward.inference():
            for batch in batches_by_length(costs, 4 * self._forward.token_budget):
                own = None if uniforms is None else uniforms[batch]
                sampled = self._sample([prompts[i] for i in batch], samples, own)
                for i, texts in zip(batch, sampled, strict=True):
                    answers[i] = [p for ids, logps in texts if (p := self._proposal(ids, logps)) is not None]
        return self._as_written(transcripts, answers)

    def _as_written(self, transcripts: Sequence[Transcript], answers: Sequence[list[Proposal]]) -> list[list[Proposal]]:
        """The proposals with the ids in which their texts are written, and the log-probabilities of those."""
        form = chat_format(self.tokenizer)
        others = [[p for p in own if p.token_ids != form.completion_ids(p.text)] for own in answers]
        asked = [i for i, own in enumerate(others) if own]
        found = list(answers)
        if asked:
            read = [self.history(transcripts[i]) for i in asked]
            texts = [list(dict.fromkeys(p.text for p in others[i])) for i in asked]
            counts: Counter[str] = Counter()  # the prompts' losses were counted when they were sampled from
            rows = _as_proposals(texts, self._token_logps(read, texts, counts))
            for i, row in zip(asked, rows, strict=True):
                written = {proposal.text: proposal for proposal in row}
                found[i] = [written.get(proposal.text, proposal) for proposal in answers[i]]
            self.counts["cut_candidates"] += counts["cut_candidates"]
            self.counts["rescored_proposals"] += sum(map(len, others))
        return found

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
        """Where ``model.generate`` stops too: models of today name several ends (Llama 3.1: three)."""
        generation = getattr(self.model, "generation_config", None)
        ends = getattr(generation, "eos_token_id", None)
        ends = ends if isinstance(ends, list) else [ends]
        return {chat_format(self.tokenizer).end_ids[-1], self.tokenizer.eos_token_id, *ends} - {None}

    @property
    def forwards(self) -> int:
        """Forwards of the network so far."""
        return self._forward.count

    @property
    def tokens(self) -> int:
        """Positions that the network computed so far, filled ones included; none for what was remembered."""
        return self._forward.tokens

    def _notice_weights(self) -> None:
        weights = self._forward.weights()
        if weights != self._weights:
            self.forget()
            self._weights = weights

    def _token_logps(
        self, read: Sequence[Transcript], candidates: Sequence[Sequence[str]], counts: Counter[str] | None = None
    ) -> list[tuple[list[Sequence[int]], np.ndarray]]:
        """For each transcript the ids of its candidates, and the log-probability of each id, in order: float64
        ``[T]``. ``counts`` gets what was lost, in place of the model's own."""
        counts = self.counts if counts is None else counts
        prompts, completions = prompts_and_completions(
            self.tokenizer, read, candidates, self.max_prompt_tokens, self._forward.positions, counts
        )
        self.computed += len(prompts)
        values = self._continuation_logps(prompts, completions)
        ends = np.cumsum([sum(map(len, ids)) for ids in completions])
        return list(zip(completions, np.split(values, ends[:-1]), strict=True))

    def _continuation_logps(
        self, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[Sequence[int]]]
    ) -> np.ndarray:
        """The log-probability of every token of every continuation, in order: float64 ``[T]``."""
        with self._forward.inference():
            rows = self._forward.rows(prompts, continuations)
            found: list[np.ndarray] = [np.empty(0)] * len(rows)
            # A position is projected on the vocabulary once, however many candidates go on from it.
            places = [row.places for row in rows]
            for batch, states in self._forward.read(rows, places):
                starts = np.cumsum([0, *(len(places[i]) for i in batch)])
                index = self._forward.tensor(
                    np.concatenate([rows[i].branches.which + s for i, s in zip(batch, starts, strict=False)])
                )
                targets = self._forward.tensor(np.concatenate([rows[i].target for i in batch]))
                logits = self._forward.logits(states)
                logps = logits[index, targets] - torch.logsumexp(logits, dim=-1)[index]
                ends = np.cumsum([len(rows[i].target) for i in batch])[:-1]
                for i, own in zip(batch, np.split(logps.double().cpu().numpy(), ends), strict=True):
                    found[i] = own
        return np.concatenate(found) if found else np.empty(0)

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
        packs = self._forward.packs
        cache = transformers.DynamicCache(config=self.model.config) if packs else None
        states = self._forward.run(tokens, None, None if packs else self._forward.tensor(seen), cache)
        states = states[self._forward.tensor(np.arange(count)), self._forward.tensor(lengths - 1)]
        logits = self._forward.logits(states)[:, None].expand(-1, n, -1)
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
                longer = [list(prompts[i]) + ids for i in map(int, active) for ids, _ in samples[i]]
                logits = self._next_logits(longer).unflatten(0, (-1, n))
                continue
            if len(keep) < len(active):
                active, drawn, visible = active[keep], drawn[keep], visible[keep]
                cache.batch_select_indices(self._forward.tensor(keep))
            own = np.broadcast_to(np.eye(n, dtype=bool), (len(active), 1, n, n))
            visible = np.concatenate([visible, own], axis=3)
            places = np.repeat(lengths[active][:, None] + step, n, axis=1)
            logits = self._forward.logits(self._forward.run(drawn, places, self._forward.additive(visible), cache))
        return samples

    def _next_logits(self, sequences: Sequence[list[int]]) -> torch.Tensor:
        tokens, seen = self._padded(sequences)
        states = self._forward.run(tokens, None, self._forward.tensor(seen))
        ends = np.array([len(sequence) - 1 for sequence in sequences])
        return self._forward.logits(states[self._forward.tensor(np.arange(len(sequences))), self._forward.tensor(ends)])

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
            thresholds = self._forward.tensor(uniforms)[..., None] * cumulative[..., -1:]
            drawn = torch.searchsorted(cumulative, thresholds, right=True)[..., 0]
            drawn = drawn.clamp(max=logits.shape[-1] - 1)
        return drawn.cpu().numpy(), logps.gather(-1, drawn[..., None])[..., 0].cpu().numpy()

    def _padded(self, sequences: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Sequences filled up on the right: ids and 2-D mask, int64 ``[N, L]``."""
        shape = (len(sequences), max(map(len, sequences)))
        tokens, seen = np.full(shape, self._forward.pad, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for i, sequence in enumerate(sequences):
            tokens[i, : len(sequence)] = sequence
            seen[i, : len(sequence)] = 1
        return tokens, seen


def check_model_folder(source: str | Path) -> None:
    """Raises ``FileNotFoundError`` where ``source`` is no folder with a model and its tokenizer, ``ValueError`` where
    the model is a critic."""
    folder = Path(source)
    recover(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{str(source)!r} is not a folder with a model; {MODEL_CURE}")
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json, so it is no model folder; {MODEL_CURE}")
    if (folder / VALUE_MODEL_FILE).is_file():
        raise ValueError(f"{folder} is a value model (critic), which has no words (--critic takes it); {MODEL_CURE}")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise FileNotFoundError(
            f"{folder} has a model but no tokenizer; copy the tokenizer's files there too (in Python "
            "tokenizer.save_pretrained, or LanguageModel.save for both)"
        )
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise FileNotFoundError(f"{folder} has no weights (*.safetensors); was it written to the end?")


def _as_proposals(
    candidates: Sequence[Sequence[str]], rows: Sequence[tuple[list[Sequence[int]], np.ndarray]]
) -> list[list[Proposal]]:
    """The candidates with what was found of their ids."""
    return [
        [
            Proposal(text, float(values.sum()), tuple(ids), tuple(values.tolist()))
            for text, ids, values in zip(texts, completions, np.split(logps, _starts(completions)[1:]), strict=False)
        ]
        for texts, (completions, logps) in zip(candidates, rows, strict=True)
    ]


def _starts(completions: Sequence[Sequence[int]]) -> np.ndarray:
    """Where each completion starts in all of them put end to end."""
    lengths = np.array([len(c) for c in completions], np.int64)
    return np.cumsum(lengths) - lengths


def _check_number(n: int) -> None:
    if n < 1:
        raise ValueError(f"n={n}; ask for at least one proposal")


def _check_lengths(transcripts: Sequence[Transcript], candidates: Sequence[Sequence[str]]) -> None:
    if len(transcripts) != len(candidates):
        raise ValueError(
            f"{len(transcripts)} transcripts but {len(candidates)} lists of candidates; give one list each"
        )
