"""A person plays an environment in the terminal: what an agent reads, and the commands that it may give.

A line is a number from the list, or the command itself; the label of a command is enough (``red shoes`` for
``click[red shoes]``). Where commands are numbers themselves (the squares of tic-tac-toe) the list has no numbers of its
own, and where a number could mean two commands the person is asked: nobody plays a move that he did not mean. A command
with gaps, shown as ellipses (``search[…]``, ``offer[food=… water=…]``), is chosen and then filled, gap by gap; in one
line its name or first letter followed by the texts is enough: ``s red shoes``, ``offer 2 1``. Several lines are one
answer between two lines of three backticks, which belong to it (a block of code, marked as Python where the environment
asks for that), or between ``<<`` and ``.``, which do not. ``?`` gives the rules, as the environment's docstring has
them, and explains what can be typed; ``q`` leaves, also at a gap; so do the end of the input and Ctrl-C. Any other line
goes to the environment as it is, which is the judge of what makes sense.

In a game of several players the person is one of them (option ``player``) and the others are ``opponents``, by name.

What it does not do: keep a record of the episode, or play environments whose actions are not text.
"""

import builtins
import inspect
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import gymnasium as gym
from gymnasium import spaces

from ..registry import environments, make_env
from ..shells.gym import SimulatorEnv
from ..terminal import printable, printable_line
from ..views import without_view

GAP = "…"
FENCE = "```"
CODE = "```python"
_NAME = re.compile(rf"[^\[\]:{GAP}]+")
_NAME_OF_GAP = re.compile(r"([^\s\[\]=:,]+)\W*$")
_LITERAL = re.compile(r"(?<!`)(?:``|````)(?!`)")
_CHESS = re.compile(r"(?:[pnbrqkPNBRQK1-8]{1,8}/){7}[pnbrqkPNBRQK1-8]{1,8} [wb] ")
_MOST_LISTED = 400
_MOST_MOVES = 12


class _LeavingError(Exception):
    """The person leaves from a gap."""


def play(
    env_id: str,
    options: Mapping[str, Any] | None = None,
    goal: int | None = None,
    seed: int | None = None,
    input: Callable[[str], str] = input,
    output: Callable[[str], object] = print,
) -> None:
    """Play one episode of ``env_id``, made with ``options``, reading lines from ``input`` and writing to ``output``.

    ``goal`` is the goal's index where the environment has goals (``reset(options={"goal": goal})``); ``seed`` names the
    episode otherwise. Raises ``ValueError`` for an unknown id, ``TypeError`` for an unknown option and for an
    environment whose actions are not text, KeyboardInterrupt on Ctrl-C, and whatever the environment raises for a goal
    that it does not have.
    """
    env = _make(env_id, dict(options or {}))
    bold = _bold if output is print and sys.stdout.isatty() and "NO_COLOR" not in os.environ else str
    if input is builtins.input:
        with suppress(ImportError):
            import readline  # noqa: F401 (arrow keys edit the line, and bring back earlier ones)
    try:
        try:
            observation, info = env.reset(seed=seed, options=None if goal is None else {"goal": goal})
        except ValueError as error:
            if "unknown reset option 'goal'" not in str(error):
                raise
            raise ValueError(f"goal={goal}: {env_id} has no goals; a seed names an episode there") from None
        total, steps, over = 0.0, 0, False
        fence = CODE if CODE in str(observation) else FENCE
        while not over:
            commands = info.get("admissible_commands")
            output(f"\n{_page(observation, env)}\n")
            if not steps and (game := _open_spiel_game(env)):
                output(_wrapped(f"The game is {game}. Another one: --option game=NAME, such as game=chess."))
            if commands:
                output(_menu(commands, bold))
            if not steps:
                output(_hint(commands, fence))
            action = _ask(commands, input, output, fence, env)
            if action is None:
                output(f"Left after {_steps(steps)}.")
                return
            output(bold(f"→ {printable(action)}"))
            observation, reward, terminated, truncated, info = env.step(action)
            total += float(reward)
            steps += 1
            over = terminated or truncated
        output(f"\n{_page(observation, env)}\n")
        output(bold(_result(total, steps, info, truncated=bool(truncated))))
        for line in _components(info):
            output(line)
    except (EOFError, KeyboardInterrupt) as left:
        output("\nLeft before the end.")
        if isinstance(left, KeyboardInterrupt):
            raise
    finally:
        env.close()


def _make(env_id: str, options: dict[str, Any]) -> gym.Env[Any, Any]:
    if _is_ours(env_id) or env_id not in gym.registry:
        return make_env(env_id, **options)
    env = gym.make(env_id, **options)
    if not isinstance(env.action_space, spaces.Text):
        raise TypeError(f"{env_id} takes actions of {env.action_space}, which are not text; play shows text alone.")
    return env


def _game(env: gym.Env[Any, Any]) -> Any:
    """The simulator behind ``env``, without a player's view; ``None`` in an environment of somebody else's."""
    if not isinstance(env.unwrapped, SimulatorEnv):
        return None
    return without_view(env.unwrapped.simulator, env.unwrapped.state)[0]


def _open_spiel_game(env: gym.Env[Any, Any]) -> str:
    """The name of the game that OpenSpiel plays in ``env``; empty in other environments."""
    from ..adapters.open_spiel import OpenSpielSimulator

    game = _game(env)
    return game.game if isinstance(game, OpenSpielSimulator) else ""


def _rules(env: gym.Env[Any, Any]) -> list[str]:
    """What the docstring of the environment, or of its simulator, says of the game and of its actions, an empty line
    after each paragraph, a table's row in one line; nothing where it has no such sections."""
    for described in (env.unwrapped, _game(env)):
        sections = re.split(r"(?m)^## (.+)\n", inspect.getdoc(type(described)) or "")
        texts = dict(zip(sections[1::2], sections[2::2], strict=True))
        if found := [texts[name] for name in ("Description", "Action Space") if name in texts]:
            paragraphs = re.split(r"\n\s*\n", _LITERAL.sub("`", printable("\n\n".join(found)).strip()))
            return [line for text in paragraphs for line in (*_paragraph(text), "")]
    return []


def _paragraph(text: str) -> list[str]:
    """A paragraph of Markdown as one line, a table as a line a row, without its head."""
    if not text.startswith("|"):
        return [" ".join(text.split())]
    rows = [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in text.split("\n")[2:]]
    return [f"  {action}{''.join(f' ({cell})' for cell in more[:-1])}: {''.join(more[-1:])}" for action, *more in rows]


def _is_ours(env_id: str) -> bool:
    return env_id not in gym.registry or env_id.rpartition(":")[2] in {row.id for row in environments()}


def _ask(
    commands: Sequence[str] | None,
    input: Callable[[str], str],
    output: Callable[[str], object],
    fence: str,
    env: gym.Env[Any, Any],
) -> str | None:
    """The next action, or ``None`` to leave."""
    while True:
        line = input("> ").strip()
        if line == "<<" or (line.startswith(FENCE) and FENCE not in line.removeprefix(FENCE)):
            return _block(fence if line == FENCE else line, input)
        found = meanings(line, commands or ())
        if not found and line in ("q", "quit"):
            return None
        if not found and line in ("?", "help"):
            output("\n".join([*map(_wrapped, _rules(env)), _help_page(commands, fence)]))
        elif len(found) > 1:
            output(f"{line} could be {' or '.join(map(printable_line, found))}: type the whole command.")
        elif found and GAP in found[0]:
            output("Fill the gap, and press Enter; Enter alone cancels. (? explains, q leaves)")
            try:
                filled = _filled(found[0], input, lambda: output(_help_page(commands, fence)))
            except _LeavingError:
                return None
            if filled is not None:
                return filled
            output("A gap was left empty: nothing is sent.")
        elif found:
            return found[0]
        elif line.isdecimal() and commands:
            cure = f"the list goes from 1 to {len(commands)}" if _numbered(commands) else "type one of the list"
            output(f"There is no command {line}: {cure}.")
        elif line:
            return line


def _block(opening: str, input: Callable[[str], str]) -> str:
    """The lines up to the one that ends what ``opening`` began; fences are part of the text."""
    fenced = opening != "<<"
    lines = [opening] if fenced else []
    while (line := input("… ").rstrip()) != (FENCE if fenced else "."):
        lines.append(line)
    return "\n".join([*lines, FENCE] if fenced else lines)


def _filled(command: str, input: Callable[[str], str], explain: Callable[[], object]) -> str | None:
    """``command`` with what the person puts into its gaps, or ``None`` where one stays empty."""
    texts = []
    for name in gaps(command):
        while (text := input(f"{name}: ").strip()) in ("?", "help"):
            explain()
        if text in ("q", "quit"):
            raise _LeavingError
        if not text:
            return None
        texts.append(text)
    return fill(command, texts)


def gaps(command: str) -> list[str]:
    """The names of the gaps in ``command``: the word before each.

    >>> gaps("offer[food=… water=…]"), gaps("say: …"), gaps("search[…]"), gaps("accept")
    (['food', 'water'], ['say'], ['search'], [])
    """
    names = [_NAME_OF_GAP.search(before) for before in command.split(GAP)[:-1]]
    return [name[1] if name else "text" for name in names]


def fill(command: str, texts: Sequence[str]) -> str:
    """``command`` with ``texts`` in its gaps.

    >>> fill("offer[food=… water=…]", ["2", "1"])
    'offer[food=2 water=1]'
    """
    before, *rest = command.split(GAP)
    return before + "".join(text + after for text, after in zip(texts, rest, strict=True))


def meanings(line: str, commands: Sequence[str]) -> list[str]:
    """The ``commands`` that ``line`` may stand for: none where it is a text of its own, several where it is not clear
    which is meant. One that still has gaps is to be filled.

    >>> meanings("1", ["click[9]", "click[1]"])
    ['click[9]', 'click[1]']
    >>> meanings("offer 2 1", ["offer[food=… water=…]", "walk away"])
    ['offer[food=2 water=1]']
    """
    line = line.strip()
    folded = line.casefold()
    if same := [command for command in commands if command == line]:
        return same[:1]
    if same := [command for command in commands if command.casefold() == folded]:
        return same
    found = [command for command in commands if GAP not in command and _label(command).casefold() == folded]
    if line.isdecimal():
        if not _numbered(commands):
            return []
        if 1 <= int(line) <= len(commands):
            found = [commands[int(line) - 1], *found]
        return list(dict.fromkeys(found))
    return found or _short_form(line, [command for command in commands if GAP in command])


def _short_form(line: str, templates: Sequence[str]) -> list[str]:
    """``templates`` that ``line`` fills: their name, or a first letter that no other has, and a text for each gap. A
    name alone is the template itself."""
    head, _, text = line.partition(" ")
    names = {template: _name(template) for template in templates}
    meant = [template for template, name in names.items() if name.casefold() == head.casefold()]
    if not meant and text.strip():
        meant = [template for template, name in names.items() if name[0].casefold() == head.casefold()]
    found = []
    for template in meant:
        wanted = len(gaps(template))
        texts = [text.strip()] if wanted == 1 else text.replace(",", " ").split()
        found.append(fill(template, texts) if text.strip() and len(texts) == wanted else template)
    return found


def command_for(line: str, commands: Sequence[str] | None) -> str:
    """The one command that ``line`` stands for among the admissible ``commands``, or ``line`` itself.

    >>> command_for("s red shoes", ["search[…]"])
    'search[red shoes]'
    >>> command_for("Buy Now", ["click[back to search]", "click[buy now]"])
    'click[buy now]'
    >>> command_for("click[anything]", ["search[…]"])
    'click[anything]'
    """
    found = meanings(line, commands or ())
    return found[0] if len(found) == 1 else line


def _name(template: str) -> str:
    """``offer`` of ``offer[food=… water=…]``."""
    match = _NAME.match(template)
    return match[0].strip() or template if match else template


def _label(command: str) -> str:
    """What stands in the brackets of ``click[red shoes]``; empty where there are none."""
    return command.partition("[")[2].removesuffix("]")


def _numbered(commands: Sequence[str]) -> bool:
    """Whether the list has numbers: not where commands are numbers themselves, or end in one (``vote 3``)."""
    return not any(command.split()[-1].isdecimal() for command in commands if command.strip())


def _hint(commands: Sequence[str] | None, fence: str) -> str:
    if not commands:
        block = f"several lines between two of {FENCE}" if fence == FENCE else f"lines between {fence} and {FENCE}"
        return f"Type your answer, or {block}. (? explains, q leaves)"
    if _numbered(commands):
        return "Type a number, or the command itself. (? explains, q leaves)"
    return "Type one of these commands. (? explains, q leaves)"


def _help_page(commands: Sequence[str] | None, fence: str) -> str:
    return "\n".join(map(_wrapped, _help(commands, fence)))


def _help(commands: Sequence[str] | None, fence: str) -> list[str]:
    lines = []
    if not commands:
        lines.append("Any text is an answer: type it and press Enter. q leaves.")
    elif _numbered(commands):
        lines.append("Type the number of a command, or the command itself. q leaves.")
    else:
        lines.append("Type one of the commands; its numbers are part of it, and no places in the list. q leaves.")
    templates = [command for command in commands or () if GAP in command]
    for template in templates:
        name, blanks = _name(template), f" {GAP}" * len(gaps(template))
        ways = [f"{name}{blanks}"]
        if [_name(other)[0] for other in templates].count(name[0]) == 1:
            ways.append(f"{name[0]}{blanks}")
        what = f"its {len(gaps(template))} gaps" if len(gaps(template)) > 1 else "the gap"
        lines.append(f"{template}: choose it and fill {what}, or write it in one line: {', or '.join(ways)}")
    lines.append(
        f"Several lines are one answer between two lines of {FENCE}, which are part of it, or between a line << and a "
        "line . which are not."
    )
    if fence == CODE:
        lines.append(f"A block that begins with {FENCE} alone is sent as a {CODE} block.")
    return lines


def _menu(commands: Sequence[str], bold: Callable[[str], str]) -> str:
    """The commands, numbered where they are no numbers, as many on a line as the terminal is wide."""
    # A non-breaking space keeps a number with its command, and a command in one piece, while textwrap fills the lines.
    shown = [printable_line(command) for command in commands[:_MOST_LISTED]]
    if numbered := _numbered(commands):
        shown = [f"{number}\xa0{command}" for number, command in enumerate(shown, 1)]
    if len(commands) > _MOST_LISTED:
        shown.append(f"… and {len(commands) - _MOST_LISTED:,} more")
    text = "   ".join(item.replace(" ", "\xa0") for item in shown)
    text = textwrap.fill(text, _columns(), break_long_words=False, break_on_hyphens=False)
    if numbered:
        text = re.sub(r"(?m)(^|(?<=   ))\d+(?=\xa0)", lambda match: bold(match[0]), text)
    return text.replace("\xa0", " ")


def _columns() -> int:
    return shutil.get_terminal_size((100, 24)).columns


def _result(total: float, steps: int, info: Mapping[str, Any], *, truncated: bool) -> str:
    how = "success" if info.get("success") else "no steps left" if truncated else "no success"
    return f"Reward {total:.3g} after {_steps(steps)}: {how}."


def _steps(steps: int) -> str:
    return f"{steps} step{'s' * (steps != 1)}"


def _components(info: Mapping[str, Any]) -> list[str]:
    components = info.get("reward_components")
    if not isinstance(components, Mapping):
        return []
    width = max(map(len, map(str, components)), default=0)
    return [
        f"  {name!s:<{width}}  {f'{value:.3g}' if isinstance(value, float) else printable_line(str(value))}"
        for name, value in components.items()
    ]


def _page(observation: str, env: gym.Env[Any, Any]) -> str:
    """One thing a line (WebShop's text mode separates them by a token), lines no wider than the terminal, and where the
    simulator writes moves in short (OpenSpiel's ``1pb``) the moves that the player knows of, in words."""
    lines = printable(observation).replace(" [SEP] ", "\n").split("\n")
    positions = [line for line in lines if _CHESS.match(line)]
    lines = [shown for line in lines for shown in (_chess_board(line) if _CHESS.match(line) else [line])]
    simulator = getattr(env.unwrapped, "simulator", None)
    if (moves_seen := getattr(simulator, "moves_seen", None)) is not None:
        moves = [printable_line(move) for move in moves_seen(env.unwrapped.state)]  # type: ignore[attr-defined]
        earlier = f"{GAP} " * (len(moves) > _MOST_MOVES)
        you = f"You are player {getattr(simulator, 'player', 0)}{_colour(positions, env)}."
        lines.append(f"{you} {earlier}{', '.join(moves[-_MOST_MOVES:])}".rstrip())
    return "\n".join(_wrapped(line) for line in lines)


def _colour(positions: Sequence[str], env: gym.Env[Any, Any]) -> str:
    """The person's colour in chess, where player 0 may be Black: a position says whose turn it is, and while the
    episode lasts that is the person's. Empty in other games."""
    shell: Any = env.unwrapped
    if not positions or shell.simulator.current_player(shell.state) < 0:
        return ""
    return ", White" if positions[-1].split()[1] == "w" else ", Black"


def _chess_board(line: str) -> list[str]:
    """A position in Forsyth–Edwards notation, drawn: Black's side above, White's pieces in capitals; and the line.

    >>> print("\\n".join(_chess_board("4k3/8/8/8/8/8/P7/4K3 w - - 0 1")[:3]))
    8 . . . . k . . .
    7 . . . . . . . .
    6 . . . . . . . .
    """
    ranks = re.sub(r"\d", lambda blank: "." * int(blank[0]), line.split()[0]).split("/")
    drawn = [f"{8 - row} {' '.join(rank)}" for row, rank in enumerate(ranks)]
    return [*drawn, "  a b c d e f g h", line]


def _wrapped(line: str) -> str:
    if len(line) <= _columns():
        return line
    return textwrap.fill(line, _columns(), replace_whitespace=False, break_long_words=False, break_on_hyphens=False)


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m"
