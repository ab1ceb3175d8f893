"""What a game gives to the compiled search: its rules as numba kernels, and the bit operations that they share.

A state of the kernels is a tuple of int64 numbers (bitboards), an action a small number. Importing a game compiles
nothing; the text simulators use the Python source of a kernel (``py_func``) where plain ints allow it, so that they
need no compiler.

Random numbers are wyrand's (Wang Yi, https://github.com/wangyi-fudan/wyhash): the state moves by a constant, the
output is the folded 128-bit product of two copies of it; one addition and one multiplication a number.

Not here: chance nodes, hidden information, more than two players, two-player games whose turns do not alternate.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba import config, njit, types
from numba.extending import intrinsic

from .compiling import forget_outdated

_WORD: Final = ir.IntType(64)
_WIDE: Final = ir.IntType(128)
# Depositing bits is one instruction where the processor has BMI2; numba must not have been told of another processor.
_HAS_DEPOSIT: Final = config.CPU_NAME is None and bool(binding.get_host_cpu_features().get("bmi2", False))


@dataclass(frozen=True, eq=False)
class CompiledRules:
    """The rules of a game for one player, or for two whose turns alternate and whose rewards sum to zero.

    name: names the rules and their parameters; the compiled search of this game is cached under it.
    players: 1 or 2.
    words: numbers in a state.
    max_actions: the most legal actions of any state, at most 255.
    max_depth: the most steps of any episode.
    legal(state, actions) -> count: writes the codes of the legal actions into ``actions`` (int64 ``[max_actions]``).
    step(state, action) -> (state, reward, over): the reward of the player who moved (float), and whether the game
        ended. Undefined for an illegal action.
    rollout(state, random) -> (value, random): one episode of uniformly random moves from a state that is not over;
        its (undiscounted) return for the player to move. ``random`` is the int64 state of the random numbers.
    encode(state): the tuple of ints of a simulator's state.
    action_text(code): the text of an action.
    sources: files beside the functions' own that decide what they do; a change in one compiles anew.
    """

    name: str
    players: int
    words: int
    max_actions: int
    max_depth: int
    legal: Any
    step: Any
    rollout: Any
    encode: Callable[[Any], tuple[int, ...]]
    action_text: Callable[[int], str]
    sources: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name, value, most in (("players", self.players, 2), ("max_actions", self.max_actions, 255)):
            if not 1 <= value <= most:
                raise ValueError(f"CompiledRules.{name} is {value!r}; expected a number from 1 to {most}")
        forget_outdated(self.legal)


def _operation(arguments: int, emit: Callable[..., Any]) -> Any:
    """A function of ``arguments`` int64 numbers to one, compiled to what ``emit(builder, *values)`` writes."""
    signature = types.int64(*[types.int64] * arguments)

    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return emit(builder, *values)

    def of_one(typing_context: Any, x: Any) -> Any:
        return signature, generate

    def of_two(typing_context: Any, x: Any, y: Any) -> Any:
        return signature, generate

    return intrinsic(of_one if arguments == 1 else of_two)


def _product(builder: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """The high and the low word of the unsigned 128-bit product."""
    product = builder.mul(builder.zext(x, _WIDE), builder.zext(y, _WIDE))
    high = builder.trunc(builder.lshr(product, ir.Constant(_WIDE, 64)), _WORD)
    return high, builder.trunc(product, _WORD)


def _emit_deposit(builder: Any, x: Any, mask: Any) -> Any:
    kind = ir.FunctionType(_WORD, [_WORD, _WORD])
    return builder.call(builder.module.declare_intrinsic("llvm.x86.bmi.pdep.64", (), kind), [x, mask])


def four_in_line(distances: tuple[int, int, int, int]) -> Any:
    """A kernel ``(stones) -> int``, not zero where four ones of ``stones`` lie at one of the distances from each other.

    Written for the four directions at once: on processors with vectors of four words it costs six instructions, where
    one direction after the other costs twenty.
    """
    words = ir.VectorType(_WORD, 4)
    near = ir.Constant(words, [ir.Constant(_WORD, distance) for distance in distances])
    far = ir.Constant(words, [ir.Constant(_WORD, 2 * distance) for distance in distances])

    def emit(builder: Any, stones: Any) -> Any:
        copies = ir.Constant(words, ir.Undefined)
        for place in range(4):
            copies = builder.insert_element(copies, stones, ir.Constant(ir.IntType(32), place))
        pairs = builder.and_(copies, builder.lshr(copies, near))
        fours = builder.and_(pairs, builder.lshr(pairs, far))
        union = builder.module.declare_intrinsic("llvm.vector.reduce.or.v4i64", (), ir.FunctionType(_WORD, [words]))
        return builder.call(union, [fours])

    return _operation(1, emit)


popcount = _operation(1, lambda builder, x: builder.ctpop(x))
"""The number of ones."""

lowest_bit = _operation(1, lambda builder, x: builder.cttz(x, ir.Constant(ir.IntType(1), 0)))
"""The index of the lowest one; 64 for zero."""

shifted_right = _operation(2, lambda builder, x, y: builder.lshr(x, y))
"""x shifted right by y with zeros coming in, as for unsigned numbers."""

_scaled = _operation(2, lambda builder, x, y: _product(builder, x, y)[0])
_folded = _operation(2, lambda builder, x, y: builder.xor(*_product(builder, x, y)))
_deposited = _operation(2, _emit_deposit)

_STRIDE: Any = np.int64(0x2D358DCCAA6C78A5)
_SALT: Any = np.int64(0x8BB84B93962EACC9 - (1 << 64))


@njit(inline="always")
def next_random(random: int) -> tuple[int, int]:
    """(state, 64 random bits) after ``random``."""
    random = random + _STRIDE
    return random, _folded(random, random ^ _SALT)


@njit(inline="always")
def below(bits: int, count: int) -> int:
    """A uniform index in [0, count) from 64 random bits (bias below count / 2⁶⁴)."""
    return _scaled(bits, count)


if _HAS_DEPOSIT:

    @njit(inline="always")
    def nth_bit(mask: int, n: int) -> int:
        """The n-th one of ``mask`` (n from 0), alone."""
        return _deposited(np.int64(1) << n, mask)

else:

    @njit
    def nth_bit(mask: int, n: int) -> int:
        """The n-th one of ``mask`` (n from 0), alone."""
        for _ in range(n):
            mask &= mask - 1
        return mask & -mask
