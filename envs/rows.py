"""The table of our environments: ids, versions, splits, opponents.

To add an environment, add a row; the tests of everything registered find it there. The version in an id rises with any
change of rules, rewards or text.
"""

from dataclasses import dataclass

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class EnvironmentRow:
    """A registered environment.

    ``simulator`` makes its rules, from options alone, written ``module:name``. ``entry_point`` makes the Gymnasium
    environment, where that is more than ``SimulatorEnv`` over the rules. ``players`` is the number of players with
    default options. ``opponents`` are pairs of a name and the ``module:name`` of an ``Opponent``, or of a class of
    them that is made without arguments; ``"random"`` is always there unless a row names its own. ``solvers``
    are the same for environments with one player: who plays it by rule. ``splits`` are the values of the ``split``
    option, none where there is no such option. ``extra`` is the optional dependency that it needs: ``pip install
    '.[<extra>]'`` in the checkout. ``lessons``: the ``module:name`` of a function
    (simulator, count, generator) → transcripts of questions about pages, and their answers, for a model that cannot
    read yet. ``page``: the ``module:name`` of a function from an observation to the kind of page that it is of, where
    an episode goes from page to page. ``worlds``: an option of which each number makes another world of the same kind.
    ``foreign``: it is another package's (``foreign.py``).
    """

    id: str
    summary: str
    simulator: str
    entry_point: str = ""
    players: int = 1
    opponents: tuple[tuple[str, str], ...] = ()
    solvers: tuple[tuple[str, str], ...] = ()
    splits: tuple[str, ...] = ()
    extra: str = ""
    lessons: str = ""
    page: str = ""
    worlds: str = ""
    foreign: bool = False


_NEGOTIATORS = (
    ("random", "branchwise.envs.negotiation.partners:random_partner"),
    ("hardliner", "branchwise.envs.negotiation.partners:hardliner"),
    ("boulware", "branchwise.envs.negotiation.partners:boulware"),
    ("linear", "branchwise.envs.negotiation.partners:linear"),
    ("conceder", "branchwise.envs.negotiation.partners:conceder"),
    ("tit-for-tat", "branchwise.envs.negotiation.partners:relative_tit_for_tat"),
    ("absolute-tit-for-tat", "branchwise.envs.negotiation.partners:absolute_tit_for_tat"),
    ("average-tit-for-tat", "branchwise.envs.negotiation.partners:average_tit_for_tat"),
)

_EQUILIBRIUM = ("equilibrium", "branchwise.envs.negotiation.equilibrium:equilibrium_partner")
_MONTE_CARLO = ("monte-carlo", "branchwise.envs.games.board_players:MonteCarloPlayer")

ENVIRONMENTS = (
    EnvironmentRow(
        id="branchwise/WebShop-v0",
        summary="Search a shop, open products, choose options and buy what the instruction asks for.",
        simulator="branchwise.envs.web_shop.rules:WebShopSimulator",
        entry_point="branchwise.envs.web_shop.env:WebShopEnv",
        solvers=(
            ("random", "branchwise.envs.web_shop.shoppers:random_shopper"),
            ("rule_based", "branchwise.envs.web_shop.shoppers:rule_based"),
            ("habitual", "branchwise.envs.web_shop.shoppers:habitual"),
            ("careful", "branchwise.envs.web_shop.shoppers:careful"),
        ),
        splits=SPLITS,
        lessons="branchwise.envs.web_shop.lessons:reading_lessons",
        page="branchwise.envs.web_shop.pages:kind_of_page",
        worlds="catalogue_seed",
    ),
    EnvironmentRow(
        id="branchwise/MathTool-v0",
        summary="Solve a math problem in several turns with a Python interpreter; answer in a box.",
        simulator="branchwise.envs.math_tool.rules:MathToolSimulator",
        entry_point="branchwise.envs.math_tool.env:MathToolEnv",
        solvers=(
            ("random", "branchwise.envs.math_tool.experts:RandomSolver"),
            ("careless", "branchwise.envs.math_tool.experts:Careless"),
            ("habitual", "branchwise.envs.math_tool.experts:Habitual"),
            ("expert", "branchwise.envs.math_tool.experts:Expert"),
        ),
        splits=SPLITS,
    ),
    EnvironmentRow(
        id="branchwise/Bifurcation-v0",
        summary="Pass a chain of points, at some of which one action is right; all values are known exactly.",
        simulator="branchwise.envs.bifurcation:Bifurcation",
        entry_point="branchwise.envs.bifurcation:BifurcationEnv",
        solvers=(
            ("random", "branchwise.envs.bifurcation:random_player"),
            ("habitual", "branchwise.envs.bifurcation:habitual"),
            ("expert", "branchwise.envs.bifurcation:expert"),
        ),
        splits=SPLITS,
    ),
    EnvironmentRow(
        id="branchwise/TicTacToe-v0",
        summary="Three in a line on nine squares.",
        simulator="branchwise.envs.games.tic_tac_toe:TicTacToe",
        players=2,
        opponents=(("perfect", "branchwise.envs.games.board_players:perfect_tic_tac_toe"),),
    ),
    EnvironmentRow(
        id="branchwise/ConnectFour-v0",
        summary="Drop stones into seven columns; four in a row win.",
        simulator="branchwise.envs.games.connect_four:ConnectFour",
        players=2,
        opponents=(_MONTE_CARLO,),
    ),
    EnvironmentRow(
        id="branchwise/Hex-v0",
        summary="Link two edges of a rhombus before the other links the other two.",
        simulator="branchwise.envs.games.hex:Hex",
        players=2,
        opponents=(_MONTE_CARLO,),
    ),
    EnvironmentRow(
        id="branchwise/Breakthrough-v0",
        summary="Two ranks of pawns each; the first to reach the other side wins.",
        simulator="branchwise.envs.games.breakthrough:Breakthrough",
        players=2,
        opponents=(_MONTE_CARLO,),
    ),
    EnvironmentRow(
        id="branchwise/KuhnPoker-v0",
        summary="Three cards, one bet: bluff and call.",
        simulator="branchwise.envs.games.kuhn_poker:KuhnPoker",
        players=2,
        opponents=(("equilibrium", "branchwise.envs.games.kuhn_poker:KuhnEquilibrium"),),
    ),
    EnvironmentRow(
        id="branchwise/LeducPoker-v0",
        summary="Hold'em with six cards and two rounds of betting.",
        simulator="branchwise.envs.games.leduc_poker:LeducPoker",
        players=2,
        opponents=(
            ("rule", "branchwise.envs.games.leduc_poker:rule_player"),
            ("equilibrium", "branchwise.envs.games.leduc_poker:EquilibriumPlayer"),
        ),
    ),
    EnvironmentRow(
        id="branchwise/LiarsDice-v0",
        summary="Bid on hidden dice, or call the other a liar.",
        simulator="branchwise.envs.games.liars_dice:LiarsDice",
        players=2,
        opponents=(("bayesian", "branchwise.envs.games.liars_dice:BayesianPlayer"),),
    ),
    EnvironmentRow(
        id="branchwise/Werewolf-v0",
        summary="Seven players, two of them werewolves: talk, doubt, lie and vote.",
        simulator="branchwise.envs.games.werewolf:Werewolf",
        players=7,
        opponents=(
            ("simple", "branchwise.envs.games.werewolf_agents:simple_player"),
            ("deductive", "branchwise.envs.games.werewolf_agents:DeductivePlayer"),
        ),
    ),
    EnvironmentRow(
        id="branchwise/OpenSpiel-v0",
        summary="Any game of OpenSpiel: chess, go, backgammon, hanabi, bargaining and a hundred more.",
        simulator="branchwise.envs.adapters.open_spiel:OpenSpielSimulator",
        players=2,
        extra="openspiel",
    ),
    EnvironmentRow(
        id="branchwise/Bargaining-v0",
        summary="Divide money by alternating offers while it loses worth (GLEE, Rubinstein).",
        simulator="branchwise.envs.negotiation.glee:BargainingSimulator",
        players=2,
        opponents=(*_NEGOTIATORS, _EQUILIBRIUM),
    ),
    EnvironmentRow(
        id="branchwise/BuyerSeller-v0",
        summary="Find a price with a partner, or trade with somebody else (GLEE).",
        simulator="branchwise.envs.negotiation.glee:BuyerSellerSimulator",
        players=2,
        opponents=(*_NEGOTIATORS, _EQUILIBRIUM),
    ),
    EnvironmentRow(
        id="branchwise/Persuasion-v0",
        summary="Recommend goods whose quality only the seller sees; believe it or not (GLEE).",
        simulator="branchwise.envs.negotiation.persuasion:PersuasionSimulator",
        players=2,
        opponents=(
            ("random", "branchwise.envs.negotiation.persuasion_partners:random_partner"),
            ("scripted", "branchwise.envs.negotiation.persuasion_partners:scripted_partner"),
            ("credulous", "branchwise.envs.negotiation.persuasion_partners:credulous_partner"),
            ("grim", "branchwise.envs.negotiation.persuasion_partners:grim_partner"),
            ("babbling", "branchwise.envs.negotiation.persuasion_partners:babbling_partner"),
        ),
    ),
    EnvironmentRow(
        id="branchwise/DealOrNoDeal-v0",
        summary="Share out books, hats and balls by talk and a hidden selection.",
        simulator="branchwise.envs.negotiation.deal_or_no_deal:DealOrNoDealSimulator",
        players=2,
        opponents=_NEGOTIATORS,
        splits=SPLITS,
    ),
    EnvironmentRow(
        id="branchwise/CaSiNo-v0",
        summary="Share out food, water and firewood with a campsite neighbour.",
        simulator="branchwise.envs.negotiation.casino:CaSiNoSimulator",
        players=2,
        opponents=_NEGOTIATORS,
    ),
    EnvironmentRow(
        id="branchwise/Haggling-v0",
        summary="Haggle over the price of a listing (CraigslistBargain).",
        simulator="branchwise.envs.negotiation.haggling:HagglingSimulator",
        players=2,
        opponents=_NEGOTIATORS,
        splits=SPLITS,
    ),
    EnvironmentRow(
        id="branchwise/MultiIssue-v0",
        summary="Agree on several issues at once, weighed differently by each side.",
        simulator="branchwise.envs.negotiation.multi_issue:MultiIssueSimulator",
        players=2,
        opponents=_NEGOTIATORS,
        splits=SPLITS,
    ),
)
