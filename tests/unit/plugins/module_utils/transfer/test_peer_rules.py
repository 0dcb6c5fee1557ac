# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer import peer_rules, pieces
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.chunk_journal import CHUNK, PartFile
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.peer_rules import Look

ORDER = ("a", "b", "c")
KEYS = ["k0", "k1", "k2", "k3", "k4", "k5"]


def look(name, *have, **more):
    return Look(name, frozenset(have), **{"heard": 0.1, "age": 100.0, **more})


def hub(here, *looks, missing=KEYS, not_from=None, whole=False):
    return peer_rules.from_hub(here, ORDER, KEYS, missing, looks, not_from or {}, whole)


def test_each_host_takes_its_share_and_together_they_take_all_once():
    shares = [hub(name, *[look(other) for other in ORDER if other != name]) for name in ORDER]
    assert shares == [["k0", "k3"], ["k1", "k4"], ["k2", "k5"]]


def test_what_the_hub_gives_at_once_one_host_takes():
    assert hub("a", look("b"), look("c"), whole=True) == KEYS
    assert hub("b", look("a"), look("c"), whole=True) == []


@pytest.mark.parametrize(
    "gone",
    [
        {"heard": peer_rules.LOST},
        {"heard": None, "age": peer_rules.GRACE},
        {"over": True},
        {"fetches": False},
        {"refused": True},
    ],
)
def test_the_share_of_a_host_that_does_not_fetch_goes_to_the_next(gone):
    assert hub("b", look("a"), look("c", **gone)) == ["k1", "k4"]
    assert hub("a", look("b"), look("c", **gone)) == ["k0", "k2", "k3", "k5"]


def test_a_host_that_was_not_heard_of_yet_is_counted_on_for_a_while():
    assert hub("a", look("b", heard=None, age=0.0), look("c", heard=None, age=0.0)) == ["k0", "k3"]


def test_what_another_host_has_does_not_come_from_the_hub():
    assert hub("a", look("b", "k0"), look("c")) == ["k3"]
    # But from whom it is not taken, it need not be waited for; nor does one that has it fetch it.
    assert hub("a", look("b", "k0"), look("c"), not_from={"k0": frozenset("b")}) == ["k0", "k3"]
    assert hub("a", look("b", "k1"), look("c"), not_from={"k1": frozenset("b")}, missing=["k1"]) == []
    assert hub("c", look("b", "k1"), look("a"), not_from={"k1": frozenset("b")}, missing=["k1"]) == ["k1"]
    assert hub("c", look("b", *KEYS, refused=True), look("a")) == ["k1", "k2", "k4", "k5"]


def test_a_host_that_has_the_model_is_waited_for_before_the_hub_is_asked():
    young = look("c", heard=None, age=1.0, seed=True)
    assert hub("a", look("b"), young) == []
    late = young._replace(age=peer_rules.GRACE)
    assert hub("a", look("b"), late) == ["k0", "k2", "k3", "k5"]


def peer(here, *looks, missing=KEYS, not_from=None):
    return peer_rules.from_peer(here, ORDER, missing, looks, not_from or {})


def test_the_rarest_file_comes_first_from_the_host_that_sends_least():
    assert peer("a", look("b", "k0", "k1"), look("c", "k0")) == ("k1", "b")
    assert peer("a", look("b", "k0", load=2), look("c", "k0", load=1)) == ("k0", "c")
    assert peer("a", look("b"), look("c")) is None


@pytest.mark.parametrize("bad", [{"busy": True}, {"refused": True}, {"over": True}, {"heard": peer_rules.LOST}])
def test_nothing_is_taken_from_who_cannot_give(bad):
    assert peer("a", look("b", *KEYS, **bad), look("c")) is None
    assert peer("a", look("b", "k1", **bad), look("c", "k1"), missing=["k1"]) == ("k1", "c")


def test_hosts_begin_at_different_files():
    first = {name: peer(name, look("z", *KEYS)._replace(name="a" if name != "a" else "b"))[0] for name in ORDER}
    assert len(set(first.values())) == 3


def test_it_is_hopeless_when_nobody_has_or_fetches_it():
    def hopeless(*looks, **more):
        return peer_rules.is_hopeless(["k0"], looks, more)

    assert hopeless(look("b", fetches=False))
    assert hopeless()
    assert not hopeless(look("b"))
    assert not hopeless(look("b", "k0", fetches=False))
    assert hopeless(look("b", "k0", fetches=False), k0=frozenset("b"))
    assert hopeless(look("b", "k0", fetches=False, heard=peer_rules.LOST))
    assert not hopeless(look("b", fetches=False, seed=True, heard=None, age=1.0))
    assert hopeless(look("b", seed=True, heard=None, age=peer_rules.GRACE))


@pytest.mark.parametrize(
    ("more", "done", "awaited"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"over": True}, False, False),
        ({"heard": peer_rules.LINGER}, False, False),
        ({"heard": None, "age": 1.0}, False, True),
        ({"heard": None, "age": 2 * peer_rules.LINGER}, False, False),
    ],
)
def test_who_is_waited_for_at_the_end(more, done, awaited):
    assert peer_rules.is_awaited(look("b", **more), done) is awaited


# --- pieces


def gives(**hosts):
    """host=(pieces as bits, load)"""
    return [peer_rules.Gives(name, *told) for name, told in hosts.items()]


@pytest.mark.parametrize(
    ("wanted", "own", "hosts", "found"),
    [
        # What one host alone has, and this host is to pass on, comes first; of the rest what several have.
        (0b1111, 0b0100, {"a": (0b1111, 5), "b": (0b0011, 0)}, (0, 2, "a")),
        (0b1011, 0b0100, {"a": (0b1111, 5), "b": (0b0001, 0)}, (1, 0, "b")),
        # What others are to pass on is left to them, unless the host that has it has room.
        (0b1010, 0b0100, {"a": (0b1111, 5), "b": (0b0001, 0)}, None),
        (0b1000, 0b0100, {"a": (0b1111, 1), "b": (0b0001, 0)}, (2, 3, "a")),
        # Of those that have it the one that sends the least.
        (0b0001, 0b0001, {"a": (0b1, 3), "b": (0b1, 2), "c": (0b1, 4)}, (1, 0, "b")),
        # A host that has the whole file.
        (0b1000, 0b1000, {"a": (-1, 7)}, (0, 3, "a")),
        (0b0000, 0b1111, {"a": (-1, 0)}, None),
        (0b1000, 0b1111, {"a": (0b0111, 0)}, None),
        (0b1000, 0b1111, {}, None),
    ],
)
def test_which_piece_is_taken_and_from_whom(wanted, own, hosts, found):
    assert peer_rules.piece(wanted, own, gives(**hosts), 0) == found


def test_hosts_begin_at_different_pieces():
    begun = {peer_rules.piece(0xFF, 0xFF, gives(a=(-1, 0)), chance)[1] for chance in range(100)}
    assert begun == set(range(8))


@pytest.mark.parametrize("mib", [3, 4, 5, 63, 64, 129, 1000, 4096, 40_000])
def test_a_file_has_some_dozens_of_pieces_and_none_is_too_long(mib):
    size = mib * 1024 * 1024 + 1
    unit = pieces.unit_of(size)
    assert 1 <= unit <= 16
    assert pieces.is_cut(size) == (mib >= 4)
    if 64 <= mib <= 1024:
        assert 64 <= mib / unit <= 128


@pytest.mark.parametrize(("unit", "bits"), [(1, 0b1011101), (2, 0b1010), (3, 0b100), (7, 0), (9, 0)])
def test_the_pieces_of_a_part_that_are_there_whole(tmp_path, unit, bits):
    part = PartFile(str(tmp_path / "part"), 7 * CHUNK - 5, "it")
    for start, end in ((0, 1), (2, 5), (6, 7)):
        part.mark(start * CHUNK, end * CHUNK)
    assert part.there(unit) == bits
    assert part.has(2 * CHUNK, 5 * CHUNK) and part.has(2 * CHUNK + 1, 3 * CHUNK - 1)
    assert not part.has(2 * CHUNK - 1, 3 * CHUNK)
    part.mark(0, 7 * CHUNK)
    assert part.there(unit) == (1 << -(-7 // unit)) - 1
    part.close()
