"""What becomes of a player who writes nothing that can be played.

In every game the last of a few invalid actions in a row ends the player's turn. By the game's own rule that ends a
negotiation or loses a board game; in the other games a move is made for the player, and play continues. Two things hold
for all games of several players:

- who lost a turn to invalid actions has no success in that episode, whatever the moves made for it led to
  (``forfeits`` in a state: a bit a player);
- with the option ``invalid_loses`` the game ends there, and the player has lost.

What it does not do: count invalid actions that a valid one followed in time.
"""


def has_forfeited(forfeits: int, player: int) -> bool:
    """Whether ``player`` lost a turn to invalid actions."""
    return bool(forfeits >> player & 1)


def forfeit_rewards(forfeits: int, stake: float) -> tuple[float, float]:
    """What a zero-sum game of two pays where one player lost it by invalid actions: ``stake``, the most that can be
    lost in it, so that invalid actions are no way out of a bad position.

    >>> forfeit_rewards(0b10, 2.0)
    (2.0, -2.0)
    """
    return (stake, -stake) if has_forfeited(forfeits, 1) else (-stake, stake)


def forfeit_line(forfeits: int, player: int, stake: float) -> str:
    """How ``player`` reads such an end."""
    lost = has_forfeited(forfeits, player)
    who = "You were" if lost else f"Player {1 - player} was"
    return f"{who} put out after too many invalid actions in a row. You {'lose' if lost else 'win'} {stake:g}."
