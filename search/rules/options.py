"""The selection rules as settings: one frozen dataclass for each rule, with the options that it reads and no others, so
that an option without effect cannot be written.

The formulas are in ``selection.py``, ``gumbel.py`` and ``swe_search.py``. As plain data, in YAML and in files, a rule
is its name (``puct``, with the defaults) or its name with options (``{puct: {exploration: 2.0}}``).

Not here: what holds for all rules (``SearchSettings`` in ``settings.py``), and which of it a rule cannot be combined
with.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Final, TypeAlias, cast

from ..typed import check_fields
from .gumbel import MAXVISIT_INIT, VALUE_SCALE
from .selection import Selection, UnvisitedValue, rule_in
from .swe_search import TERMS

MAX_COUNT: Final = 2**31 - 1
"""Nodes of a tree are numbered in 32 bits."""
LARGEST_SCALE: Final = 1e30
"""What returns and scores are multiplied by or divided by; infinity makes scores that are NaN."""

_BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "exploration": (0.0, LARGEST_SCALE),
    "exploitation": (0.0, LARGEST_SCALE),
    "fpu_value": (-LARGEST_SCALE, LARGEST_SCALE),
    "top_nodes": (1, MAX_COUNT),
    "apart": (0.0, 1.0),
    "considered": (1, MAX_COUNT),
    "gumbel_scale": (0.0, LARGEST_SCALE),
    "value_scale": (0.0, LARGEST_SCALE),
    "maxvisit_init": (0.0, LARGEST_SCALE),
}


@dataclass(frozen=True)
class _Options:
    name: ClassVar[Selection]

    def __post_init__(self) -> None:
        check_fields(self)
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = _BOUNDS.get(field.name, (0.0, 0.0))
            if field.name in _BOUNDS and not low <= value <= high:
                raise ValueError(
                    f"{type(self).__name__}.{field.name} is {value!r}; expected a number from {low} to {high}"
                )
            if field.name in ("exploration_base", "temperature") and not 0.0 < value <= LARGEST_SCALE:
                raise ValueError(
                    f"{type(self).__name__}.{field.name} is {value!r}; expected more than 0, and at most"
                    f" {LARGEST_SCALE}"
                )


@dataclass(frozen=True)
class _FirstPlay(_Options):
    exploration: float = 2.5
    """The constant c."""
    unvisited_value: UnvisitedValue = "parent"
    """Q of a child without a visit: its parent's value, ``reduced`` (that minus fpu_value · √(prior mass of the visited
    children)), ``constant`` (fpu_value), ``zero`` (Agent Q, MCTS-DPO), ``infinite`` (every child once first), or
    ``prior``, what the search's critic gave it. Under ``normalise``, zero and constant are values after scaling."""
    fpu_value: float = 0.0
    """Of ``reduced`` (a factor; KataGo's is 0.2, and 0 is refused) and ``constant`` (a value)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fpu_value != 0.0 and self.unvisited_value not in ("reduced", "constant"):
            raise ValueError(
                f"{type(self).__name__}: fpu_value={self.fpu_value} is read under unvisited_value='reduced' or"
                " 'constant' alone"
            )
        if self.unvisited_value == "reduced" and self.fpu_value == 0.0:
            raise ValueError(
                f"{type(self).__name__}: unvisited_value='reduced' with fpu_value=0.0 reduces nothing; set fpu_value"
                " (KataGo: 0.2), or use unvisited_value='parent'"
            )


@dataclass(frozen=True)
class Ucb1(_FirstPlay):
    """Q + c · √(ln N / (1 + n)): Agent Q (arXiv 2408.07199, Eq. 7)."""

    name: ClassVar[Selection] = "ucb1"


@dataclass(frozen=True)
class Uct(_Options):
    """Q + c · √(2 ln N / n), every child once first: Kocsis and Szepesvári (2006), LATS, ReST-MCTS*."""

    name: ClassVar[Selection] = "uct"

    exploration: float = 2.5
    """The constant c."""


@dataclass(frozen=True)
class Puct(_FirstPlay):
    """Q + c · P · √N / (1 + n): AlphaZero with a constant c; MCTS-DPO (arXiv 2405.00451)."""

    name: ClassVar[Selection] = "puct"


@dataclass(frozen=True)
class AlphaZero(_FirstPlay):
    """:class:`Puct` with c = ln((N + c_base + 1) / c_base) + c_init, where ``exploration`` is c_init: AlphaZero's
    pseudocode (c_init 1.25), MuZero, TS-LLM."""

    name: ClassVar[Selection] = "alphazero"

    exploration_base: float = 19652.0
    """c_base."""


@dataclass(frozen=True)
class PUcb(_FirstPlay):
    """Q + c · P · √(ln N) / (1 + n): PG-TD (arXiv 2303.05510) and ARMAP (arXiv 2502.12130), c = 6.36."""

    name: ClassVar[Selection] = "p_ucb"


@dataclass(frozen=True)
class UctBonus(_Options):
    """w_e · Q + w_x · √(ln N / n) + additive terms: SWE-Search (arXiv 2410.20285)."""

    name: ClassVar[Selection] = "uct_bonus"

    exploration: float = 2.5
    """w_x."""
    exploitation: float = 1.0
    """w_e."""
    bonus_terms: tuple[str, ...] = ()
    """The additive terms by name (``swe_search.TERMS``), where the caller passes no bonus."""
    whole_tree: bool = False
    """Takes the best of all nodes that can grow (SWE-Search's program), instead of walking down."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.bonus_terms:
            if name not in TERMS:
                raise ValueError(f"UctBonus.bonus_terms has {name!r}; expected some of {', '.join(TERMS)}")


@dataclass(frozen=True)
class Minimax(_Options):
    """The least visited child first, so that every move is searched to ``max_depth``: PokéChamp (arXiv 2503.04094)."""

    name: ClassVar[Selection] = "minimax"


@dataclass(frozen=True)
class Softmax(_Options):
    """A draw among the best nodes of the whole tree: Optima (arXiv 2410.08115)."""

    name: ClassVar[Selection] = "softmax"

    temperature: float = 1.0
    """Of the softmax over the values of the nodes."""
    top_nodes: int = 10
    """How many of the best nodes the draw is among."""
    apart: float = 0.0
    """Within a batch no node is drawn whose action is nearer than this (edit distance over length) to that of one drawn
    before."""


@dataclass(frozen=True)
class Gumbel(_Options):
    """Sequential halving at the root, the improved policy below: Gumbel MuZero (Danihelka et al., 2022)."""

    name: ClassVar[Selection] = "gumbel"

    considered: int = 16
    """Root actions that sequential halving starts with."""
    gumbel_scale: float = 1.0
    """Of the noise at the root; 0 plays without noise."""
    value_scale: float = VALUE_SCALE
    """c_scale of σ."""
    maxvisit_init: float = MAXVISIT_INIT
    """c_visit of σ."""
    rescale_values: bool = True
    """Whether values are scaled to [0, 1] for σ (mctx's ``qtransform_completed_by_mix_value``)."""


Rule: TypeAlias = Ucb1 | Uct | Puct | AlphaZero | PUcb | UctBonus | Minimax | Softmax | Gumbel

RULES: Final[dict[str, type[Rule]]] = {
    kind.name: kind for kind in (Ucb1, Uct, Puct, AlphaZero, PUcb, UctBonus, Minimax, Softmax, Gumbel)
}

_DEFAULTS: Final[dict[str, Any]] = {field.name: field.default for kind in RULES.values() for field in fields(kind)}
"""Of every option of every rule. An option that several rules have, has one default."""


def rule_of(given: Any) -> Rule:
    """A rule as it is, or the one that a name or plain data gives. Raises ValueError for an unknown name, TypeError for
    an option that the rule does not have, and for anything else."""
    if isinstance(given, str):
        given = {given: {}}
    if isinstance(given, _Options):
        return cast(Rule, given)
    if not isinstance(given, Mapping):
        raise TypeError(
            f"SearchSettings.selection is {given!r}; expected one of {', '.join(RULES)}, or one with its options, such"
            " as Uct(exploration=1.4)"
        )
    if len(given) != 1 or next(iter(given)) not in RULES:
        shown = next(iter(given)) if len(given) == 1 else dict(given)
        raise ValueError(f"SearchSettings.selection is {shown!r}; expected one of {', '.join(RULES)}")
    [(name, options)] = given.items()
    if not isinstance(options, Mapping | None):
        raise TypeError(f"selection {name!r} has the options {options!r}; expected them by name")
    known = [field.name for field in fields(RULES[name])]
    for option in options or {}:
        if option not in known:
            raise TypeError(f"selection {name!r} has no option {option!r}; it has {', '.join(known) or 'none'}")
    return RULES[name](**(options or {}))


def rule_as_json(rule: Rule) -> dict[str, dict[str, Any]]:
    """The rule as JSON holds it: its options by its name."""
    return {rule.name: {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(rule).items()}}


def numbers_of(rule: Rule) -> dict[str, Any]:
    """Every option of every rule, as the compact records of the kernels want them: what this rule does not have is at
    its default, and not read."""
    return {**_DEFAULTS, **asdict(rule)}


def overlaid(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a search as plain data, ``over`` laid over ``under``. Options of one selection rule are laid over
    each other; another rule begins with its defaults."""
    result = {**under, **over}
    name, options = rule_in(over)
    if name:
        below, before = rule_in(under)
        result["selection"] = {name: {**before, **options} if name == below else dict(options)}
    return result


def from_flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in the form of earlier versions, which kept the options of all selection rules beside each other, in the
    form of today. Options that the rule does not read are left out, as is a first-play reduction by 0, which reduces
    nothing. Settings of today's form are returned as they are."""
    name = settings.get("selection", "puct" if any(option in settings for option in _DEFAULTS) else None)
    if not isinstance(name, str) or name not in RULES:
        return dict(settings)
    rest = {option: value for option, value in settings.items() if option not in _DEFAULTS}
    options = {field.name: settings[field.name] for field in fields(RULES[name]) if field.name in settings}
    if options.get("unvisited_value") == "reduced" and options.get("fpu_value", 0.0) == 0.0:
        options["unvisited_value"] = "parent"
    return {**rest, "selection": {name: options}}
