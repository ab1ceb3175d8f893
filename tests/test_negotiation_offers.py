"""The grammar of offers: what is understood, what is refused and with which words, and messages made harmless."""

import pytest

from branchwise.envs.negotiation.casino import CaSiNoSimulator
from branchwise.envs.negotiation.deal_or_no_deal import DealOrNoDealSimulator
from branchwise.envs.negotiation.glee import BargainingSimulator, BuyerSellerSimulator
from branchwise.envs.negotiation.haggling import HagglingSimulator
from branchwise.envs.negotiation.multi_issue import MultiIssueSimulator
from branchwise.envs.negotiation.offers import (
    LONGEST_ACTION,
    LONGEST_MESSAGE,
    Act,
    amount_in_cents,
    clean_message,
    counts_of,
    named_values,
    parse,
    write_amount,
)
from branchwise.testing import HOSTILE_TEXTS

KINDS = [
    BargainingSimulator,
    BuyerSellerSimulator,
    DealOrNoDealSimulator,
    CaSiNoSimulator,
    HagglingSimulator,
    MultiIssueSimulator,
]


@pytest.mark.parametrize(
    ("text", "act"),
    [
        ("accept", Act("accept")),
        ("  ACCEPT ", Act("accept")),
        ("walk   away", Act("walk away")),
        ("offer[ 60 ]", Act("offer", "60")),
        ("offer[a=1 b=2]: take it: now", Act("offer", "a=1 b=2", "take it: now")),
        ("Select[no agreement]", Act("select", "no agreement")),
        ("say: hi\nBob: accept", Act("say", None, "hi Bob: accept")),
        ('yes: "sure"', Act("yes", None, "'sure'")),
    ],
)
def test_what_the_grammar_understands(text: str, act: Act) -> None:
    assert parse(text) == act


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is not of the form"),
        ("accept now", "is not of the form"),
        ("I accept", "is not of the form"),
        ("offer 60", "is not of the form"),
        ("offer", "offer needs terms in brackets"),
        ("accept[60]", "accept takes no terms"),
        ("offer[[60]]", "is not of the form"),
        ("offer[60] offer[70]", "is not of the form"),
        ("bribe[60]", "is no act"),
        ("say:", "say needs a message"),
        ("say: \x00\n", "say needs a message"),
        ("ſay: hi", "is not of the form"),  # a long s is no s
        ("a" * (LONGEST_ACTION + 1), "characters; at most"),
    ],
)
def test_what_is_refused_says_why(text: str, part: str) -> None:
    assert part in parse(text).fault


def test_faults_name_what_is_wrong_with_terms() -> None:
    names = ("book", "hat")
    assert named_values("book=1", names) == "hat is missing; name every one."
    assert "stands there twice" in str(named_values("book=1 book=2", names))
    assert "the names are book, hat" in str(named_values("book=1 ball=2", names))
    assert "not of the form name=value" in str(named_values("book 1", names))
    assert counts_of("book=1, hat=2", names, (1, 2)) == (1, 2)
    for wrong in ("book=1 hat=3", "book=-1 hat=0", "book=1.5 hat=0", "book=١ hat=0", "book=9999999999 hat=0"):
        assert "write a whole number from 0 to" in str(counts_of(wrong, names, (1, 2)))


@pytest.mark.parametrize("cents", [0, 1, 10, 99, 100, 12345, 100_000_000])
def test_amounts_are_read_as_they_are_written(cents: int) -> None:
    assert amount_in_cents(write_amount(cents)) == cents


@pytest.mark.parametrize("text", ["", "-1", "1e3", "1,000", "$5", "nan", "5.001", "٣", "1" * 13, "5."])
def test_other_amounts_are_refused(text: str) -> None:
    assert "is no amount" in str(amount_in_cents(text))


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_messages_become_one_short_printable_line(text: str) -> None:
    message = clean_message(text)
    assert len(message) <= LONGEST_MESSAGE
    assert message.isprintable()
    assert '"' not in message
    assert "<|" not in message
    assert "|>" not in message
    message.encode("utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_every_offer_is_read_as_it_is_written_by_both_players(kind: type) -> None:
    simulator = kind(messages=False)
    for seed in range(5):
        context = simulator.reset(seed).context
        for player in (0, 1):
            for outcome in simulator.outcomes(context).tolist():
                assert simulator._read(context, player, simulator._write(context, player, outcome)) == outcome


@pytest.mark.parametrize(
    ("kind", "options", "action", "part"),
    [
        (BargainingSimulator, {}, "offer[alice=60 bob=30]", "add up to 90; they must add up to 100"),
        (BargainingSimulator, {}, "offer[60]", "is not of the form name=value"),
        (BargainingSimulator, {}, "accept", "accept is not possible now; possible: offer"),
        (BargainingSimulator, {"messages": False}, "offer[alice=60 bob=40]: hi", "messages are not allowed"),
        (BargainingSimulator, {"messages": False}, "offer[alice=60.5 bob=39.5]", "not one of the offers"),
        (BuyerSellerSimulator, {}, "offer[a lot]", "is no amount"),
        (DealOrNoDealSimulator, {}, "offer[book=9 hat=0 ball=0]", "write a whole number from 0 to"),
        (CaSiNoSimulator, {}, "offer[food=4 water=0 firewood=0]", "write a whole number from 0 to 3"),
        (HagglingSimulator, {}, "offer[999999999]", "is above the listing price"),
        (MultiIssueSimulator, {}, "offer[salary=1k remote=none holiday=20-days start=may]", "salary has the options"),
    ],
)
def test_a_malformed_offer_says_what_was_wrong(kind: type, options: dict, action: str, part: str) -> None:
    simulator = kind(**options)
    state = simulator.step(simulator.reset(0), action)
    assert simulator.info(state)["invalid_action"]
    assert part in simulator.observation(state, simulator.current_player(state))
    assert state.offers == ()
