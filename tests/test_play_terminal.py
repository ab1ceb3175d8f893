"""Playing in the terminal, by feeding lines to it: numbers, commands, short forms, help, leaving, hostile text."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import pytest

from branchwise.envs.gym_shell import SimulatorEnv
from branchwise.envs.play import command_for, play
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
    assert "say[…] takes any text: say[red shoes], or s red shoes." in shown
    assert "after 2 steps" in shown


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

    play("doors-v0", input=interrupt, output=shown.append)
    assert shown[-1] == "\nLeft before the end."


def test_goal_and_seed_reach_the_environment() -> None:
    assert "goal 7" in played(goal=7)
    assert "goal 5" in played(seed=5)


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in played("s \x1b[2J")


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
