"""Playing in the terminal, by feeding lines to it: numbers, commands, short forms, help, leaving, hostile text."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import gymnasium as gym
import pytest

from branchwise.envs.play.person import command_for, play
from branchwise.envs.registry import EnvironmentRow, environments, make_env
from branchwise.envs.shells import SimulatorEnv
from branchwise.envs.simulator import TERMINAL, Simulator


class DoorState(NamedTuple):
    place: str
    text: str
    steps: int


class Doors(Simulator[DoorState]):
    """say[…] in the hall; then door 1 (reward 0.5) or the red door (reward 1). Three steps at most."""

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> DoorState:
        return DoorState("hall", f"goal {(options or {}).get('goal', seed)}", 0)

    def current_player(self, state: DoorState) -> int:
        return TERMINAL if state.place == "out" or state.steps >= 3 else 0

    def observation(self, state: DoorState, player: int = 0) -> str:
        return f"You are in the {state.place}. {state.text}"

    def legal_actions(self, state: DoorState) -> list[str] | None:
        return None if state.place == "hall" else ["open[1]", "open[red door]"]

    def admissible_commands(self, state: DoorState) -> list[str] | None:
        return ["say[…]"] if state.place == "hall" else self.legal_actions(state)

    def step(self, state: DoorState, action: str) -> DoorState:
        if state.place == "hall" and action.startswith("say["):
            return DoorState("corridor", f"heard {action}", state.steps + 1)
        if state.place == "corridor" and action in ("open[1]", "open[red door]"):
            return DoorState("out", action, state.steps + 1)
        return DoorState(state.place, f"no such thing: {action}", state.steps + 1)

    def rewards(self, state: DoorState) -> tuple[float, ...]:
        return ({"open[1]": 0.5, "open[red door]": 1.0}.get(state.text, 0.0),)

    def truncated(self, state: DoorState) -> bool:
        return state.place != "out" and state.steps >= 3

    def info(self, state: DoorState) -> dict[str, Any]:
        won = state.text == "open[red door]"
        return {
            "success": won,
            "invalid_action": False,
            "reward_components": {"door": 1.0 if won else 0.5, "key": "red"},
        }


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    gym.register("doors-v0", entry_point=lambda: SimulatorEnv(Doors()), disable_env_checker=True, order_enforce=False)
    yield
    del gym.registry["doors-v0"]


def played(*lines: str, **arguments: Any) -> str:
    """All that is shown when these lines are typed and the input then ends."""
    waiting, shown = iter(lines), []

    def read(prompt: str) -> str:
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    play("doors-v0", input=read, output=shown.append, **arguments)
    return "\n".join(shown)


def test_commands_are_numbered_and_a_number_gives_its_command() -> None:
    shown = played("say[hello]", "2")
    assert "1 open[1]   2 open[red door]" in shown
    assert "→ open[red door]" in shown
    assert "Reward 1 after 2 steps: success." in shown


def test_reward_components_are_shown_at_the_end() -> None:
    assert "  door  0.5\n  key   red" in played("say[hello]", "1")


def test_short_form_of_free_text() -> None:
    assert "heard say[two words]" in played("s two words")
    assert "heard say[two words]" in played("say two words")


def test_number_of_a_free_text_command_asks_for_its_text() -> None:
    assert "heard say[red shoes]" in played("1", "red shoes")


def test_label_alone_gives_its_command_but_a_number_is_a_place_in_the_list() -> None:
    assert "→ open[red door]" in played("s x", "Red Door")
    assert "→ open[1]" in played("s x", "1")


def test_number_outside_the_list_costs_no_step() -> None:
    assert "There is no command 7: the list goes from 1 to 2." in played("s x", "7", "2")


def test_any_other_line_goes_to_the_environment() -> None:
    assert "no such thing: sing" in played("sing")


def test_empty_lines_are_passed_over() -> None:
    assert "heard say[x]" in played("", "  ", "s x")


def test_help_names_free_text_and_costs_no_step() -> None:
    shown = played("?", "s x", "2")
    assert "say[…]: choose it and fill the gap, or write it in one line: say …, or s …" in shown
    assert "after 2 steps" in shown


@pytest.mark.parametrize("row", environments(), ids=lambda row: row.id.partition("/")[2])
def test_a_question_mark_gives_the_rules_as_wide_as_the_terminal(
    row: EnvironmentRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    waiting, shown = iter(["?", "q"]), []
    play(row.id, seed=1, input=lambda prompt: next(waiting), output=shown.append)
    rules = str(shown[-2])
    assert "q leaves" in rules
    assert len(rules.split("\n\n")) >= 3, "two sections of the docstring, and how to type"
    assert "##" not in rules
    assert "| " not in rules
    assert not re.search("(?<!`)``(?!`)", rules)
    assert max(map(len, rules.split("\n"))) <= 80


def test_the_rules_say_what_each_action_does() -> None:
    waiting, shown = iter(["?", "q"]), []
    play("LeducPoker", seed=1, input=lambda prompt: next(waiting), output=shown.append)
    assert "  `fold` (after a raise): gives up the pot\n" in str(shown[-2])


def test_running_out_of_steps_is_said() -> None:
    assert "Reward 0 after 3 steps: no steps left." in played("a", "b", "c")


def test_q_leaves() -> None:
    assert played("s x", "q", "2").endswith("Left after 1 step.")


def test_end_of_input_leaves_politely() -> None:
    assert played().endswith("Left before the end.")


def test_interrupt_leaves_politely() -> None:
    shown: list[str] = []

    def interrupt(prompt: str) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play("doors-v0", input=interrupt, output=shown.append)
    assert shown[-1] == "\nLeft before the end."


def test_goal_and_seed_reach_the_environment() -> None:
    assert "goal 7" in played(goal=7)
    assert "goal 5" in played(seed=5)


def test_control_and_direction_characters_do_not_reach_the_terminal() -> None:
    shown = played("s \x1b[2J\u202e\x9b1A")
    assert not set("\x1b\u202e\x9b") & set(shown)
    assert "heard say[�[2J��1A]" in shown


# ---- nobody plays a move that he did not mean -----------------------------------------------------------------------


class Menu(Simulator[tuple[str, ...]]):
    """One menu, any number of moves; the state is what was played."""

    def __init__(self, commands: list[str] | None) -> None:
        self.commands = commands

    def reset(self, seed: int, options: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        return ()

    def current_player(self, state: tuple[str, ...]) -> int:
        return 0

    def observation(self, state: tuple[str, ...], player: int = 0) -> str:
        return "Choose."

    def legal_actions(self, state: tuple[str, ...]) -> list[str] | None:
        return self.commands

    def step(self, state: tuple[str, ...], action: str) -> tuple[str, ...]:
        return (*state, action)

    def rewards(self, state: tuple[str, ...]) -> tuple[float, ...]:
        return (0.0,)

    def info(self, state: tuple[str, ...]) -> dict[str, Any]:
        return {"success": False, "invalid_action": False}


def sent(commands: list[str] | None, *lines: str) -> list[str]:
    """What reaches the environment when these lines are typed."""
    env = SimulatorEnv(Menu(commands))
    waiting, name = iter([*lines, "q"]), "menu-v0"
    gym.register(name, entry_point=lambda: env, disable_env_checker=True, order_enforce=False)
    try:
        play(name, input=lambda prompt: next(waiting), output=lambda text: None)
    finally:
        del gym.registry[name]
    return list(env.state or ())


def test_a_number_that_is_an_action_is_that_action() -> None:
    """With 5, 6 and 8 taken, the fifth of what is left is square 7."""
    squares = ["1", "2", "3", "4", "7", "9"]
    assert sent(squares, "7") == ["7"]
    assert sent(squares, "5", "4") == ["4"]
    assert sent(["bid 1", "1"], "1") == ["1"]
    assert sent(["vote nobody", "vote 1", "vote 2"], "2", "vote 2") == ["vote 2"]


@pytest.mark.parametrize(
    ("commands", "line"),
    [
        (["click[9]", "click[1]"], "1"),
        (["offer[x]", "select[x]"], "x"),
        (["offer[…]", "open[…]"], "o 5"),
        (["Bet", "bet"], "BET"),
    ],
)
def test_a_line_that_could_be_two_commands_is_asked_again(commands: list[str], line: str) -> None:
    assert sent(commands, line) == []
    assert sent(commands, commands[1], *["5"] * ("…" in commands[1])) != []


@pytest.mark.parametrize(
    ("lines", "action"),
    [
        (("1", "2", "0", "1"), "offer[food=2 water=0 wood=1]"),
        (("offer[food=… water=… wood=…]", "2", "0", "1"), "offer[food=2 water=0 wood=1]"),
        (("offer", "2", "0", "1"), "offer[food=2 water=0 wood=1]"),
        (("offer 2 0 1",), "offer[food=2 water=0 wood=1]"),
        (("o 2, 0, 1",), "offer[food=2 water=0 wood=1]"),
        (("offer 2", "2", "0", "1"), "offer[food=2 water=0 wood=1]"),
        (("offer[food=2 water=0 wood=1]: please",), "offer[food=2 water=0 wood=1]: please"),
        (("2", "let us talk"), "say: let us talk"),
        (("say: …", "hello"), "say: hello"),
        (("s hello to you",), "say: hello to you"),
        (("1", "2", "", "3"), "walk away"),
    ],
)
def test_gaps_are_filled_by_the_person(lines: tuple[str, ...], action: str) -> None:
    assert sent(["offer[food=… water=… wood=…]", "say: …", "walk away"], *lines) == [action]


@pytest.mark.parametrize("leave", ["q", "quit"])
def test_q_leaves_from_a_gap_and_a_question_mark_explains(leave: str) -> None:
    shown = played("1", "?", leave)
    assert "say[…]: choose it and fill the gap" in shown
    assert "Enter alone cancels" in shown
    assert shown.endswith("Left after 0 steps.")
    assert "heard say[red]" in played("1", "?", "red")


def test_a_block_between_plain_fences_is_code_where_the_environment_asks_for_python() -> None:
    waiting, shown = iter(["```", "print(6 * 7)", "```", "q"]), []
    play("branchwise/MathTool-v0", seed=1, input=lambda prompt: next(waiting), output=shown.append)
    text = "\n".join(map(str, shown))
    assert "lines between ```python and ```" in text
    assert "→ ```python" in text
    assert "42" in text
    assert "Invalid action" not in text


def test_several_lines_are_one_answer() -> None:
    assert sent(None, "```python", "for i in range(2):", "    print(i)", "", "```") == [
        "```python\nfor i in range(2):\n    print(i)\n\n```"
    ]
    assert sent(None, "<<", "First this.", "?", "q", ".") == ["First this.\n?\nq"]
    assert sent(None, "``` 1 + 1 ```") == ["``` 1 + 1 ```"]


def test_commands_of_the_environment_come_before_those_of_the_player() -> None:
    assert sent(["help", "look"], "help") == ["help"]


def test_a_menu_of_many_thousand_commands_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown: list[str] = []
    gym.register("many-v0", entry_point=lambda: SimulatorEnv(Menu([f"move {i}." for i in range(65_535)])))
    try:
        play("many-v0", input=lambda prompt: "q", output=lambda text: shown.append(str(text)))
    finally:
        del gym.registry["many-v0"]
    assert "and 65,135 more" in shown[1]
    assert all(len(line) <= 80 for line in "\n".join(shown).splitlines())


@pytest.mark.parametrize("row", [row for row in environments() if not row.extra], ids=lambda row: row.id)
def test_every_environment_can_be_played_at_80_columns(row: EnvironmentRow, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the first number or command of each list, gaps filled with 1; nothing is sent with its gap, and no line is
    wider than the terminal (but for a single word that is)."""
    monkeypatch.setenv("COLUMNS", "80")
    shown: list[str] = []
    turns = iter(range(60))

    def read(prompt: str) -> str:
        next(turns)
        if prompt != "> ":
            return "1"
        menu = shown[-2] if shown[-1].startswith("Type ") else shown[-1]
        if "MathTool" in row.id:
            return "\\boxed{1}"
        return menu.split("   ")[0] if not menu.startswith("1 ") else "1"

    options = {"products": 100} if "WebShop" in row.id else {}
    with suppress(StopIteration):
        play(row.id, options, seed=1, input=read, output=lambda text: shown.append(str(text)))
    played = [text for text in shown if text.startswith("→ ")]
    assert played
    assert not any("…" in text for text in played)
    for line in "\n".join(shown).splitlines():
        assert len(line) <= 80 or " " not in line.strip(), line


def test_openspiel_says_what_was_played_in_words_and_hides_what_is_hidden() -> None:
    pytest.importorskip("pyspiel")
    shown: list[str] = []
    lines = iter(["Pass", "q"])
    play(
        "branchwise/OpenSpiel-v0",
        {"player": 1, "opponents": "random"},
        seed=1,
        input=lambda prompt: next(lines),
        output=lambda text: shown.append(str(text)),
    )
    simulator = make_env("branchwise/OpenSpiel-v0").unwrapped.simulator.simulator
    state = simulator.reset(0)
    for action in ("2", "0", "Pass", "Bet"):
        number = {"2": 2, "0": 0}.get(action)
        actions = [text for text, _ in simulator.chance_outcomes(state)] if number is not None else []
        state = simulator.step(state, next((text for text in actions if action in text), action))
    assert [move.partition(": ")[::2] for move in simulator.moves_seen(state, 1)][-2:] == [
        ("player 0", "Pass"),
        ("you", "Bet"),
    ]
    assert len(simulator.moves_seen(state, 0)) == len(simulator.moves_seen(state, 1)) == 3
    assert "You are player 1. dealt: " in shown[0]


def test_unknown_environment_is_named() -> None:
    with pytest.raises(ValueError, match="No environment 'doors-v9'"):
        play("doors-v9")


def test_environment_without_text_is_refused() -> None:
    with pytest.raises(TypeError, match="not text"):
        play("CartPole-v1")


@pytest.mark.parametrize(
    ("line", "commands", "expected"),
    [
        ("s red shoes", ["search[…]"], "search[red shoes]"),
        ("search[red shoes]", ["search[…]"], "search[red shoes]"),
        ("search[red shoes] now", ["search[…]"], "search[red shoes] now"),
        ("s", ["search[…]"], "s"),
        ("< PREV", ["click[< prev]"], "click[< prev]"),
        ("anything", None, "anything"),
    ],
)
def test_command_for(line: str, commands: list[str] | None, expected: str) -> None:
    assert command_for(line, commands) == expected


def test_web_shop_is_played_from_search_to_purchase() -> None:
    lines, shown = iter(["s granola bars", "3", "buy now"]), []
    play("branchwise/WebShop-v0", {"products": 100}, goal=0, input=lambda _: next(lines), output=shown.append)
    text = "\n".join(map(str, shown))
    assert "[SEP]" not in text
    assert "after 3 steps" in text
    assert "total" in text


def test_unknown_option_is_named() -> None:
    with pytest.raises(TypeError, match="has no option 'product'"):
        play("branchwise/WebShop-v0", {"product": 100})


def test_a_position_of_chess_is_drawn() -> None:
    pytest.importorskip("pyspiel")
    shown: list[str] = []
    options = {"game": "chess", "player": 1}
    play("OpenSpiel", options, seed=1, input=lambda prompt: "q", output=lambda text: shown.append(str(text)))
    board, _, text = shown[0].strip().partition("  a b c d e f g h\n")
    assert board.splitlines() == [
        "8 r n b q k b n r",
        "7 p p p p p p p p",
        *(f"{rank} . . . . . . . ." for rank in (6, 5, 4, 3)),
        "2 P P P P P P P P",
        "1 R N B Q K B N R",
    ]
    assert text.startswith("rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w")
