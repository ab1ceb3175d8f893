"""The one place that turns turns into token ids.

A *history policy* chooses what the model reads of a transcript: all of it (``all_turns``), all past actions and the
current observation alone (``actions_and_last_observation``; Agent Q, arXiv:2408.07199, section 3), or the current
observation alone (``last_observation``). The chosen turns are then written in the tokenizer's chat template.

A chat template is taken apart once (:class:`ChatFormat`): a probe conversation is rendered, and the text between its
contents is what the template adds. Each turn is tokenised once, behind the text of the template that comes before it,
and a conversation is the concatenation of its turns' ids. So the ids of a prompt are always a prefix of the ids of any
conversation that goes on from it, whatever the template does to finished conversations (templates that drop "thinking"
from the past, for one, break this when whole conversations are rendered and compared). The agent's turns are everywhere
opened as the generation prompt opens them, with thinking switched off, and end with the token that ends an assistant
turn.

Contents are text, whoever wrote them, system turns too. A *control token* is a special token, or an added token that
the template writes (``</think>``, where it is not flagged as special); none is read from a content, whatever the
tokenizer's normaliser makes of it. The ids that come out are looked at, not the text that goes in.

Prompts longer than the model takes lose their oldest exchanges, at turn boundaries and never the last observation; if
that alone is too long, its start is cut, by tokens. Each such loss is counted.

Not handled: tools, images and several assistant turns in a row (they are joined by a line break). A content with the
name of a special token is tokenised in pieces, and a tokenizer of SentencePiece's may write a blank before each.
"""

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import chain
from typing import Any, Final
from weakref import WeakKeyDictionary, proxy

from ..envs.play.transcript import Transcript, Turn

History = Callable[[Transcript], Transcript]

PLAIN_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{{ '\\n' }}"
    "{% endfor %}"
)
"""Contents one a line, agent turns closed by the end-of-sequence token: for base models that come without a
template."""

LONGEST_CACHED_TEXT: Final = 20_000  # characters; longer texts are rare, and a cache of them would eat the memory
CACHED_TEXTS: Final = 50_000
CHARACTERS_PER_TOKEN: Final = 64  # more than any tokenizer spends on a token of real text


def all_turns(transcript: Transcript) -> Transcript:
    """The whole transcript."""
    return transcript


def actions_and_last_observation(transcript: Transcript) -> Transcript:
    """Agent Q's history: all past actions, one a line, then the current observation, as one turn of the environment;
    system turns stay in front. A transcript that ends with an agent turn keeps it as a turn of its own."""
    past, tail = _split_at_last_observation(transcript)
    actions = [turn.text for turn in past if turn.is_agent or turn.role == "assistant"]
    if tail and actions:
        tail = (Turn("user", "\n".join((*actions, tail[0].text))), *tail[1:])
    return (*(turn for turn in past if turn.role == "system"), *tail)


def last_observation(transcript: Transcript) -> Transcript:
    """System turns and the current observation; enough where the observation shows all that matters."""
    past, tail = _split_at_last_observation(transcript)
    return (*(turn for turn in past if turn.role == "system"), *tail)


HISTORIES: Final[dict[str, History]] = {
    "all_turns": all_turns,
    "actions_and_last_observation": actions_and_last_observation,
    "last_observation": last_observation,
}


def history_named(history: str | History) -> History:
    """The history policy of that name; a function is returned as it is. ``ValueError`` for an unknown name."""
    if callable(history):
        return history
    if history not in HISTORIES:
        raise ValueError(f"history={history!r} is unknown; take one of {', '.join(HISTORIES)}")
    return HISTORIES[history]


def history_key(transcript: Sequence[Turn]) -> Hashable:
    """What tells two prompts apart: the roles and texts of the turns, without what was logged beside them."""
    return tuple((turn.role, turn.text) for turn in transcript)


def prompt_ids(
    tokenizer: Any,
    transcript: Transcript,
    history: str | History = all_turns,
    max_tokens: int | None = None,
    counts: Counter[str] | None = None,
) -> list[int]:
    """The ids that the model reads before it acts: ``history`` of ``transcript`` in the chat template, up to and with
    the generation prompt.

    At most ``max_tokens`` ids. ``counts`` gets ``truncated_prompts``, ``dropped_turns`` and ``cut_observations``.
    Raises ``ValueError`` where the tokenizer has no usable chat template.
    """
    return chat_format(tokenizer).prompt_ids(history_named(history)(transcript), max_tokens, counts)


def completion_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of one agent turn: the action and the token that ends the turn. They follow :func:`prompt_ids`
    directly."""
    return list(chat_format(tokenizer).completion_ids(text))


def prompts_and_completions(
    tokenizer: Any,
    transcripts: Sequence[Transcript],
    candidates: Sequence[Sequence[str]],
    max_prompt_tokens: int | None,
    positions: int | None,
    counts: Counter[str],
) -> tuple[list[list[int]], list[list[Sequence[int]]]]:
    """The ids of each prompt (history policy already applied) and of each of its candidates, fitted to a model of so
    many ``positions``: a prompt leaves room for its longest candidate, and a candidate that would fill more than half
    of them is cut (``counts["cut_candidates"]``)."""
    form = chat_format(tokenizer)
    prompts: list[list[int]] = []
    completions: list[list[Sequence[int]]] = []
    for turns, texts in zip(transcripts, candidates, strict=True):
        ids: list[Sequence[int]] = [form.completion_ids(text) for text in texts]
        limit = max_prompt_tokens
        if positions is not None:
            longest = max(map(len, ids), default=0)
            if longest > positions // 2:
                counts["cut_candidates"] += sum(len(c) > positions // 2 for c in ids)
                ids = [c[: positions // 2] for c in ids]
                longest = positions // 2
            limit = min(positions - longest, positions if limit is None else limit)
        prompts.append(form.prompt_ids(turns, limit, counts))
        completions.append(ids)
    return prompts, completions


def end_of_turn_id(tokenizer: Any) -> int:
    """The id of the token that ends an agent turn."""
    return chat_format(tokenizer).end_ids[-1]


def chat_format(tokenizer: Any) -> "ChatFormat":
    """The tokenizer's chat template, taken apart; made once a tokenizer and template."""
    form = _formats.get(tokenizer)
    if form is None or form.template != tokenizer.chat_template:
        form = _formats[tokenizer] = ChatFormat(tokenizer)
    return form


class ChatFormat:
    """What a chat template puts between the contents of turns, and the ids of turns, remembered by text.

    ``end_ids`` are the ids of the closing text of an agent turn; the last of them is the end-of-turn token.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.template = tokenizer.chat_template
        if not self.template:
            raise ValueError(
                f"{type(tokenizer).__name__} {tokenizer.name_or_path!r} has no chat template, so turns cannot be "
                "written as it expects them; set tokenizer.chat_template (for base models: "
                "branchwise.agents.prompting.PLAIN_TEMPLATE)"
            )
        self._tokenizer = proxy(tokenizer)  # the table of formats must not keep its own keys alive
        self._remembered: OrderedDict[tuple[str, ...], tuple[int, ...]] = OrderedDict()
        special = {*tokenizer.all_special_tokens}
        special.update(str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
        special.discard("")
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)")
        self._control: frozenset[int] = frozenset()
        self._glue_controls: dict[str, list[int]] = {}
        self._take_apart()
        self._control = self._control_ids()

    def _control_ids(self) -> frozenset[int]:
        """The ids that no content may hold. The unknown word's is none of them, unless it is another token's too."""
        added = self._tokenizer.added_tokens_decoder
        special = {*self._tokenizer.all_special_ids, *(i for i, token in added.items() if token.special)}
        named = {getattr(self._tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad", "sep", "cls", "mask")}
        glue = (self._opening, self._lead, self._between, self._closing, self._generation, *(self._system or ()))
        written = {i for text in glue for i in self._encode(text)}
        structure = {i for i in written if i in added and str(added[i]).strip()}
        unknown = {self._tokenizer.unk_token_id} - named - structure
        return frozenset((special | structure) - unknown - {None})

    def _take_apart(self) -> None:
        opening, answer, between, _, _, generation = self._glue(
            ("user", "assistant", "user", "assistant", "user"), generate=True
        )
        self._generation = generation
        self._lead = answer.removeprefix(generation) if answer.startswith(generation) else ""
        self._opening = opening
        end = self._special.search(between)
        if end is not None:
            closing, self._between = between[: end.end()], between[end.end() :]
        elif self._tokenizer.eos_token is not None:
            closing, self._between = self._tokenizer.eos_token, between
        else:
            raise ValueError(
                "the chat template ends an assistant turn with no special token and the tokenizer has no eos_token, so "
                "a turn could never end; set tokenizer.eos_token"
            )
        self._closing = closing
        self.end_ids = tuple(self._encode(closing))
        answer = f"{self._lead}probe{closing}"
        self._marks_starts = True
        self._marks_starts = self._after(generation, answer) != self._encode(answer)
        probe = self._render([{"role": "user", "content": " \tprobe \n"}], generate=True)
        self._strips = "probe" in probe and " \tprobe \n" not in probe
        try:
            self._system: tuple[str, str] | None = self._glue(("system", "user"), generate=True)[:2]  # type: ignore[assignment]
        except ValueError:
            self._system = (
                None  # such a template has no system role; the text then goes in front of the first observation
            )

    def _render(self, messages: list[dict[str, str]], generate: bool) -> str:
        return self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=generate, enable_thinking=False
        )

    def _glue(self, roles: Sequence[str], generate: bool) -> tuple[str, ...]:
        """The texts before, between and after the contents of a conversation with these roles. They must be the same
        for two probes of different words and lengths, else they hold a content, or hang on one."""
        pieces = self._pieces(roles, [f"zqprobe{i}qz" for i in range(len(roles))], generate)
        if pieces != self._pieces(roles, [f"qz{i}another{'x' * 40}{i}zq" for i in range(len(roles))], generate):
            raise ValueError(
                f"the chat template does not write the turns of {', '.join(roles)} in order, each once: what stands "
                "between them changes with their contents. Set tokenizer.chat_template to one that repeats no content"
            )
        return pieces

    def _pieces(self, roles: Sequence[str], probes: Sequence[str], generate: bool) -> tuple[str, ...]:
        try:
            rest = self._render([{"role": r, "content": p} for r, p in zip(roles, probes, strict=True)], generate)
        except Exception as error:  # templates raise whatever they like
            raise ValueError(f"the chat template refuses a conversation of {', '.join(roles)}: {error}") from error
        pieces = []
        for probe in probes:
            piece, found, rest = rest.partition(probe)
            if not found:
                raise ValueError(
                    f"the chat template does not write the turns of {', '.join(roles)} in order, each once"
                )
            pieces.append(piece)
        return (*pieces, rest)

    def _encode(self, text: str, literal: bool = False) -> list[int]:
        """Ids of ``text``. ``literal`` reads the names of special tokens as plain text."""
        text = _readable(text)
        core = getattr(self._tokenizer, "backend_tokenizer", None)
        if core is not None and not (literal or core.encode_special_tokens or core.truncation or core.padding):
            return core.encode(text, add_special_tokens=False).ids  # without the wrapper's tenth of a millisecond
        extra = {"split_special_tokens": True} if literal else {}
        return self._tokenizer.encode(text, add_special_tokens=False, verbose=False, **extra)

    def _after(self, before: str, text: str) -> list[int]:
        """Ids of ``text`` behind the text of the template ``before``. Alone it has the same, except where a tokenizer
        marks the start of what it is given, as SentencePiece's do with a blank."""
        if self._marks_starts:
            ids, head = self._encode(before + text), self._encode(before)
            if ids[: len(head)] == head:
                return ids[len(head) :]
        return self._encode(text)

    def _literal(self, text: str) -> list[int]:
        """Ids of a content, without a control token, so that it can end no turn and open none. Where the tokenizer
        reads one all the same (an added token that is not special), its text is encoded in two halves; what cannot be
        halved is left out."""
        text = _readable(text)
        ids = self._encode(text, literal=True)
        if not self._controls(ids):
            return ids
        pieces, begin = [], 0
        if getattr(self._tokenizer, "is_fast", False):
            found = self._tokenizer(
                text, add_special_tokens=False, verbose=False, split_special_tokens=True, return_offsets_mapping=True
            )
            for i, (start, end) in zip(found["input_ids"], found["offset_mapping"], strict=True):
                if i in self._control:
                    middle = (start + end) // 2
                    pieces.append(text[begin:middle])
                    begin = middle if end - start > 1 else end
        pieces.append(text[begin:])
        if text in pieces:  # nothing was halved
            return [i for i in ids if i not in self._control]
        return [i for piece in pieces for i in self._literal(piece)]

    def _controls(self, ids: Iterable[int]) -> list[int]:
        return [i for i in ids if i in self._control]

    def _controls_of(self, glue: str) -> list[int]:
        """The control tokens of what the template writes; there are few such texts."""
        if glue not in self._glue_controls:
            self._glue_controls[glue] = self._controls(self._encode(glue))
        return self._glue_controls[glue]

    def _turn(self, before: str, *parts: str) -> tuple[int, ...]:
        """Ids of a text of the template, a content, a text of the template, and so on in turn, behind ``before``."""
        known = self._remembered.get((before, *parts))
        if known is not None:
            return known
        contents = [content.strip() if self._strips else content for content in parts[1::2]]
        texts = [contents[place // 2] if place % 2 else part for place, part in enumerate(parts)]
        ids = tuple(self._after(before, "".join(texts)))
        expected = [*chain.from_iterable(map(self._controls_of, parts[::2]))]
        if any(map(self._special.search, contents)) or self._controls(ids) != expected:
            ids = tuple(
                i
                for place, text in enumerate(texts)
                for i in (self._literal(text) if place % 2 else self._after("" if place else before, text))
            )
        if sum(map(len, parts[1::2])) <= LONGEST_CACHED_TEXT:
            self._remembered[before, *parts] = ids
            if len(self._remembered) > CACHED_TEXTS:
                self._remembered.popitem(last=False)
        return ids

    def completion_ids(self, text: str) -> tuple[int, ...]:
        """Ids of an agent turn after a generation prompt, the end-of-turn token last."""
        return self._turn(self._generation, self._lead, text, self._closing)

    def observation_ids(self, text: str) -> tuple[int, ...]:
        """Ids from the end of an agent turn through the next observation to the next generation prompt."""
        return self._turn(self._closing, self._between, text, self._generation)

    def prompt_ids(
        self, transcript: Transcript, max_tokens: int | None = None, counts: Counter[str] | None = None
    ) -> list[int]:
        """Ids of the turns as they stand (no history policy), through the generation prompt, at most ``max_tokens``."""
        opening, exchanges = self._exchanges(transcript)
        if max_tokens is None:
            return self._join(opening, exchanges)
        if max_tokens < 1:
            raise ValueError(f"max_tokens={max_tokens}; a prompt needs at least 1")
        limit = CHARACTERS_PER_TOKEN * max_tokens
        last, _ = exchanges[-1]
        cut = len(last) > limit
        if cut:
            exchanges[-1] = (last[-limit:], None)
        # The first exchange is written otherwise than the later ones, so a shorter history is put together afresh.
        dropped = 0
        ids = self._join(opening, exchanges)
        while len(ids) > max_tokens and dropped < len(exchanges) - 1:
            lengths = [len(self.observation_ids(o)) + len(self.completion_ids(a or "")) for o, a in exchanges[dropped:]]
            excess = len(ids) - max_tokens
            while excess > 0 and dropped < len(exchanges) - 1:
                excess -= lengths.pop(0)
                dropped += 1
            ids = self._join(opening, exchanges[dropped:])
        if len(ids) > max_tokens:
            cut = True
            ids = self._cut(opening, exchanges[-1][0], max_tokens)
        if counts is not None and (dropped or cut):
            counts["truncated_prompts"] += 1
            counts["dropped_turns"] += 2 * dropped
            counts["cut_observations"] += int(cut)
        return ids

    def _cut(self, opening: tuple[str, ...], observation: str, max_tokens: int) -> list[int]:
        before, after = [*self._turn("", *opening)], self._after("a", self._generation)  # whatever word is before it
        room = max_tokens - len(before) - len(after)
        if room < 1:
            return (before + after)[-max_tokens:]
        return before + self._literal(observation)[-room:] + after

    def _join(self, opening: tuple[str, ...], exchanges: Sequence[tuple[str, str | None]]) -> list[int]:
        ids: list[int] = []
        for i, (observation, action) in enumerate(exchanges):
            ids += self.observation_ids(observation) if i else self._turn("", *opening, observation, self._generation)
            if action is not None:
                ids += self.completion_ids(action)
        return ids

    def _exchanges(self, transcript: Transcript) -> tuple[tuple[str, ...], list[tuple[str, str | None]]]:
        """What stands before the first observation (of the template; or of the template, of the system turn and of the
        template again), and (observation, action) pairs; the last has no action."""
        merged = _merged(transcript)
        opening: tuple[str, ...] = (self._opening,)
        if merged and merged[0][0] == "system":
            system = merged.pop(0)[1]
            if self._system is not None:
                opening = (self._system[0], system, self._system[1])
            elif merged and merged[0][0] == "user":
                merged[0] = ("user", f"{system}\n{merged[0][1]}")
            else:
                merged.insert(0, ("user", system))
        if not merged or merged[0][0] == "assistant":
            merged.insert(0, ("user", ""))
        if merged[-1][0] == "assistant":
            merged.append(("user", ""))
        exchanges: list[tuple[str, str | None]] = []
        for role, text in merged:
            if role == "assistant":
                exchanges[-1] = (exchanges[-1][0], text)
            else:
                exchanges.append((text, None))
        return opening, exchanges


def _readable(text: str) -> str:
    """``text`` without lone surrogates, which no tokenizer reads."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _merged(turns: Sequence[Turn]) -> list[tuple[str, str]]:
    """(role, text) of the turns, with neighbours of one role joined, and late system turns read as observations."""
    merged: list[tuple[str, str]] = []
    for turn in turns:
        role = turn.role if turn.role != "system" or all(r == "system" for r, _ in merged) else "user"
        if merged and merged[-1][0] == role:
            merged[-1] = (role, f"{merged[-1][1]}\n{turn.text}")
        else:
            merged.append((role, turn.text))
    return merged


def _split_at_last_observation(transcript: Transcript) -> tuple[Transcript, Transcript]:
    for i in range(len(transcript) - 1, -1, -1):
        if transcript[i].role == "user":
            return transcript[:i], transcript[i:]
    return transcript, ()


_formats: "WeakKeyDictionary[Any, ChatFormat]" = WeakKeyDictionary()
