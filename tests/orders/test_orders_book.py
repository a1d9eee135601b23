"""The orders themselves: what the engine is told, what ends them, how they are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vipd.model import Orders, PinOrder
from vipd.supervisor.orders import FILE_NAME, OrderBook, OrderFile, OrdersNotKept

NOW = 1_800_000_000.0


def test_nothing_is_ordered_at_first() -> None:
    assert OrderBook().orders() == Orders()
    assert OrderBook().next_end() is None


def test_a_step_down_is_counted_and_held() -> None:
    book = OrderBook()
    book.step_down("web", NOW, None)
    book.step_down("web", NOW, None)
    book.step_down("api", NOW, None)
    assert book.orders() == Orders(held=("api", "web"), step_downs=(("api", 1), ("web", 2)))


def test_the_end_of_a_hold_does_not_take_its_step_down_back() -> None:
    book = OrderBook()
    book.step_down("web", NOW, None)
    assert book.end_hold("web")
    assert not book.end_hold("web")
    assert book.orders() == Orders(step_downs=(("web", 1),))


def test_orders_end_at_their_time_and_not_before() -> None:
    book = OrderBook()
    book.begin_maintenance(NOW, 60.0)
    book.step_down("web", NOW, 30.0)
    book.step_down("api", NOW, None)
    assert book.next_end() == NOW + 30
    assert book.expire(NOW + 29.9) == ()
    assert book.expire(NOW + 30) == ("web",)
    assert book.next_end() == NOW + 60
    assert book.expire(NOW + 1e6) == ("",)
    assert book.orders() == Orders(held=("api",), step_downs=(("api", 1), ("web", 1)))


def test_maintenance_that_goes_on_keeps_its_beginning() -> None:
    book = OrderBook()
    book.begin_maintenance(NOW, 60.0)
    book.begin_maintenance(NOW + 10, None)
    assert book.maintenance is not None
    assert (book.maintenance.since, book.maintenance.until) == (NOW, None)


def test_a_hold_ends_when_this_node_is_master_again() -> None:
    book = OrderBook()
    book.step_down("web", NOW, None)
    assert not book.see_role("web", is_master=False)
    assert not book.see_role("api", is_master=True)
    assert book.see_role("web", is_master=True)
    assert book.orders().held == ()


def test_a_note_older_than_the_order_does_not_end_the_hold() -> None:
    book = OrderBook()
    book.step_down("web", NOW, None)
    assert not book.see_role("web", is_master=True)
    assert book.orders().held == ("web",)


def test_units_that_are_gone_are_forgotten() -> None:
    book = OrderBook()
    book.step_down("web", NOW, None)
    book.step_down("api", NOW, None)
    assert book.retain(["api", "db"]) == ("web",)
    assert book.orders() == Orders(held=("api",), step_downs=(("api", 1),))


def test_each_pin_counts_one_more_and_the_last_one_is_told() -> None:
    book = OrderBook()
    book.pin("web", "lb2", 90.0)
    book.pin("api", "lb3", None)
    book.pin("web", "", None)
    assert book.orders() == Orders(pins=(PinOrder("api", "lb3", 1), PinOrder("web", "", 2)))


def test_a_pin_with_an_end_never_becomes_one_without() -> None:
    book = OrderBook()
    book.pin("web", "lb2", 1e-12)
    assert book.orders().pins[0].for_ns == 1


def test_pins_of_units_that_are_gone_are_forgotten() -> None:
    book = OrderBook()
    book.pin("web", "lb2", None)
    book.pin("api", "lb2", None)
    assert book.retain(["api"]) == ()
    assert book.orders() == Orders(pins=(PinOrder("api", "lb2", 1),))


# --- the file ---------------------------------------------------------------------------------


def test_the_book_survives(tmp_path: Path) -> None:
    book = OrderBook()
    book.begin_maintenance(NOW, 1800.0)
    book.step_down("web", NOW, None)
    OrderFile(tmp_path).save(book.to_json())
    loaded, trouble = OrderFile(tmp_path).load()
    assert trouble == ""
    assert loaded.orders() == book.orders()
    assert loaded.maintenance == book.maintenance
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE_NAME]


def test_pins_live_in_the_engines_and_not_in_the_file(tmp_path: Path) -> None:
    book = OrderBook()
    book.pin("web", "lb2", None)
    OrderFile(tmp_path).save(book.to_json())
    assert OrderFile(tmp_path).load()[0].orders() == Orders()


def test_a_hold_that_was_read_ends_with_the_first_mastership(tmp_path: Path) -> None:
    book = OrderBook()
    book.step_down("web", NOW, None)
    OrderFile(tmp_path).save(book.to_json())
    loaded, _ = OrderFile(tmp_path).load()
    assert loaded.see_role("web", is_master=True)


def test_no_file_is_no_order_and_no_trouble(tmp_path: Path) -> None:
    book, trouble = OrderFile(tmp_path).load()
    assert (book.orders(), trouble) == (Orders(), "")


GOOD = json.loads(OrderBook().to_json())
DAMAGED = [
    "",
    "{",
    "[]",
    "\x00\x00\x00",
    json.dumps(GOOD | {"form": 99}),
    json.dumps(GOOD | {"holds": ["web"]}),
    json.dumps(GOOD | {"holds": {"web": {"since": "yesterday", "until": None}}}),
    json.dumps(GOOD | {"holds": {"web": {"until": 1.0}}}),
    json.dumps(GOOD | {"step_downs": {"web": "2"}}),
    json.dumps(GOOD | {"maintenance": {"since": 1.0, "until": float("nan")}}),
    json.dumps(GOOD | {"maintenance": True}),
]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_is_set_aside(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    book, trouble = OrderFile(tmp_path).load()
    assert book.orders() == Orders()
    assert "damaged" in trouble
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME + ".damaged"]


def test_a_file_of_bytes_that_are_no_text_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"\xff\xfe\x00{")
    assert "damaged" in OrderFile(tmp_path).load()[1]


def test_a_file_that_cannot_be_read_is_said_and_kept(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    book, trouble = OrderFile(tmp_path).load()
    assert book.orders() == Orders()
    assert "cannot be read" in trouble


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(OrdersNotKept, match="No such file"):
        OrderFile(tmp_path / "absent").save("{}")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = OrderFile(tmp_path)
    file.save(OrderBook().to_json())
    (tmp_path / (FILE_NAME + ".new")).mkdir()
    with pytest.raises(OrdersNotKept):
        file.save("something else")
    assert file.load() == (OrderBook(), "")
