"""No text makes the loader raise anything but ConfigError, and every fault is complete."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from vipd.config.load import load_text
from vipd.config.schema import json_schema
from vipd.errors import ConfigError

EXAMPLE = (Path(__file__).parents[2] / "etc" / "vipd.yaml").read_text()
LINE_ENDS = "\n\r\x85\u2028\u2029"  # as YAML counts


def judge(text: str) -> None:
    faults = ()
    try:
        load_text(text, node="lb1")
    except ConfigError as error:
        faults = error.faults or (None,)
    for fault in faults:
        assert fault is not None, "an error without faults"
        assert 1 <= fault.line <= sum(text.count(end) for end in LINE_ENDS) + 2
        assert fault.problem
        assert fault.cure
        assert str(fault).isprintable()
        str(fault).encode()


@given(st.text(max_size=300))
@settings(max_examples=400, deadline=None)
def test_any_text(text: str) -> None:
    judge(text)


@given(st.text(alphabet=" \n\t-:{}[],&*!|>'\"%@`#?<ab1\\x.~", max_size=60))
@settings(max_examples=600, deadline=None)
def test_yaml_like_text(text: str) -> None:
    judge(text)


def _keys() -> list[str]:
    schemas = [json_schema(), *json_schema()["$defs"].values()]
    return sorted({key for schema in schemas for key in schema.get("properties", {})})


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
        st.sampled_from(["auto", "1s", "192.0.2.1/24", "fe80::1", "eth0", "/x", "off", "require"]),
    ),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(_keys()) | st.text(max_size=4), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(_keys()), VALUES, max_size=4), VALUES)
@settings(max_examples=300, deadline=None)
def test_known_keys_with_any_values(top: dict[str, object], instance: object) -> None:
    import yaml

    judge(yaml.safe_dump({**top, "instances": {"web": instance}}, allow_unicode=True))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_the_example_with_a_scratch(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(EXAMPLE)))
    length = data.draw(st.integers(0, 40))
    patch = data.draw(st.text(alphabet="\n -:{}[]&*'\"ab1", max_size=6))
    judge(EXAMPLE[:start] + patch + EXAMPLE[start + length :])
