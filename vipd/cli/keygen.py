"""``vipd keygen``: make the cluster's key, and replace it without a moment of deafness.

A member that signs with a key that another does not have yet is not heard by it. So a key is
replaced in three steps, each of them on every member before the next: the new key verifies
(``--add``), it signs (``--swap``), the old one goes (``--retire``). ``--rotate`` does the first two
at once: members with the old file are deaf to those with the new one until they have it, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vipd.errors import VipdError

DEFAULT_FILE = Path("/etc/vipd/cluster.key")

_NEXT = "Copy the file to every node and witness, mode 0600, and reload them all"

app = typer.Typer()

FileArgument = Annotated[Path, typer.Argument(help="The key file.", metavar="[FILE]")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Overwrite the file: its keys are lost.")
]
AddOption = Annotated[
    bool, typer.Option("--add", help="Put a new key behind the present one: it verifies.")
]
SwapOption = Annotated[
    bool, typer.Option("--swap", help="Exchange the two keys: the second one signs from now on.")
]
RetireOption = Annotated[
    bool, typer.Option("--retire", help="Remove the second key: what it signed is refused.")
]
RotateOption = Annotated[
    bool, typer.Option("--rotate", help="Put a new key in front of the present one: it signs.")
]


@app.callback()
def _group() -> None:
    """Commands about the cluster's key."""


@app.command("keygen")
def keygen(
    file: FileArgument = DEFAULT_FILE,
    force: ForceOption = False,
    add: AddOption = False,
    swap: SwapOption = False,
    retire: RetireOption = False,
    rotate: RotateOption = False,
) -> None:
    """Make the secret key of a cluster, mode 0600; copy the file to every node and witness.

    To replace a key without an interruption: --add, --swap, --retire. After each step copy the file
    to every member and reload them all.
    """
    from vipd.adapters.keyfile import new_key, read_keys, write_keys

    wanted = {"--force": force, "--add": add, "--swap": swap, "--retire": retire}
    wanted["--rotate"] = rotate
    chosen = [option for option, is_wanted in wanted.items() if is_wanted]
    if len(chosen) > 1:
        raise typer.BadParameter(f"{' and '.join(chosen)} do not go together")
    step = chosen[0] if chosen else ""
    if step in ("", "--force"):
        write_keys(file, (new_key(),), replace=force)
        print(f"{file}: a new key. {_NEXT}.")
        return
    keys, done = _step(file, step, read_keys(file), new_key())
    write_keys(file, keys, replace=True)
    print(f"{file}: {done}. {_NEXT}.")


def _step(
    file: Path, step: str, keys: tuple[bytes, ...], new: bytes
) -> tuple[tuple[bytes, ...], str]:
    """The keys after this step of a replacement, and what it means, in words."""
    if step == "--rotate":
        return (new, keys[0]), "a new key signs, the one before still verifies"
    if step == "--add":
        if len(keys) > 1:
            raise VipdError(f"{file} has two keys already; finish with --swap or --retire")
        return (keys[0], new), "the key still signs, a new one verifies; next: --swap"
    if len(keys) < 2:
        raise VipdError(f"{file} has one key only; begin with --add")
    if step == "--swap":
        return (keys[1], keys[0]), "the second key signs now, the first verifies; next: --retire"
    return (keys[0],), "one key is left, the second is refused from now on"
