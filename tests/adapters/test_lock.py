"""The name: one holder per network namespace, freed by death, and the holder is named."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from tests.adapters.conftest import Namespace, wait_for
from vipd.adapters.lock import acquire_name, name_holders
from vipd.errors import NameTaken

pytestmark = pytest.mark.netns

HOLD = "import sys; sys.stdin.read()"


def test_the_name_has_one_holder_who_is_named(namespace: Namespace) -> None:
    with namespace:
        assert name_holders() == ()
        held = acquire_name()
        assert name_holders() == (os.getpid(),)
        with pytest.raises(NameTaken, match=rf"process {os.getpid()} holds @vipd") as caught:
            acquire_name()
        assert caught.value.errno == errno.EADDRINUSE
        held.close()
        acquire_name().close()


def test_another_name_and_another_namespace_are_free(namespace: Namespace) -> None:
    elsewhere = Namespace()
    with namespace:
        held = acquire_name()
        acquire_name("vipd-other").close()
        with elsewhere:
            assert name_holders() == ()
            acquire_name().close()
    held.close()
    elsewhere.close()


def test_an_heir_holds_the_name_and_its_death_frees_it(namespace: Namespace) -> None:
    with namespace:
        held = acquire_name()
        assert not held.get_inheritable(), "hooks and checks must not hold the name"
        heir = subprocess.Popen(
            [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, pass_fds=[held.fileno()]
        )
        stranger = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE)
        held.close()
        wait_for(lambda: name_holders() == (heir.pid,))
        with pytest.raises(NameTaken, match=f"process {heir.pid} holds"):
            acquire_name()
        heir.kill()
        heir.communicate()
        acquire_name().close()
        stranger.communicate()
