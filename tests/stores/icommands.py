"""Stand-ins for the icommands that dtool-irods calls, over a folder on disk. No iRODS server takes part.

They answer in the form of iRODS 4.2, as far as dtool-irods reads it. A copy of this file is a command: its name says
which, and the folder "irods" beside its own holds what it keeps.
"""

from __future__ import annotations

import os
import shutil
import sys

NAMES = ("iget", "iput", "ils", "imkdir", "irm", "imeta", "ichksum")
ZONE = "/zone"


def install(folder: str) -> str:
    """Make the commands, and a zone for them, in an existing folder; return what is to go onto PATH."""
    commands = os.path.join(folder, "icommands")
    os.mkdir(commands)
    os.makedirs(os.path.join(folder, "irods") + ZONE)
    with open(__file__, encoding="utf-8") as file:
        # Nothing is looked for that is not needed, since dtool-irods starts several of these for each item.
        program = f"#!{sys.executable} -SI\n{file.read()}"
    for name in NAMES:
        with open(os.path.join(commands, name), "w", encoding="utf-8") as file:
            file.write(program)
        os.chmod(file.name, 0o755)
    return commands


def main(store: str, name: str, arguments: list[str]) -> None:
    """Do what a command would."""
    options = {word for word in arguments if word.startswith("-") and len(word) > 1}
    words = [word for word in arguments if word not in options]
    if name == "imeta":
        _imeta(store, *arguments)
    elif name == "iget":
        _iget(store + words[0], words[1])
    elif name == "iput":
        shutil.copyfile(words[0], store + words[1])
    elif name == "imkdir":
        os.mkdir(store + words[0])
    elif name == "irm":
        shutil.rmtree(store + words[0])
    elif name == "ichksum":
        _ichksum(store + words[0])
    else:
        _ils(store, words[0], long="-l" in options)


def _iget(path: str, to: str) -> None:
    if to == "-":
        with open(path, "rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
    else:
        shutil.copyfile(path, to)


def _ichksum(path: str) -> None:
    import base64
    import hashlib

    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).digest()
    print(f"    {os.path.basename(path)}    sha2:{base64.b64encode(digest).decode()}")


def _ils(store: str, path: str, *, long: bool) -> None:
    if os.path.isdir(store + path):
        print(f"{path}:")
        for name in sorted(os.listdir(store + path)):
            if not name.endswith(".avu"):
                _line(store, f"{path}/{name}", long=long)
    else:
        _line(store, path, long=long, whole=True)


def _line(store: str, path: str, *, long: bool, whole: bool = False) -> None:
    import time

    status = os.stat(store + path)
    name = os.path.basename(path)
    if os.path.isdir(store + path):
        print(f"  C- {path}")
    elif long:
        when = time.strftime("%Y-%m-%d.%H:%M", time.localtime(status.st_mtime))
        print(f"  rods              0 demoResc {status.st_size:12} {when} & {name}")
    else:
        print(f"  {path if whole else name}")


def _imeta(store: str, verb: str, _: str, path: str, key: str, value: str = "") -> None:
    """Keep one value for each object; dtool-irods sets no other key."""
    if verb == "set":
        with open(f"{store}{path}.avu", "w", encoding="utf-8") as file:
            file.write(f"attribute: {key}\nvalue: {value}\nunits: \n")
        return
    print(f"AVUs defined for dataObj {path}:")
    if os.path.exists(f"{store}{path}.avu"):
        with open(f"{store}{path}.avu", encoding="utf-8") as file:
            print(file.read(), end="")
    else:
        print("None\n")


if __name__ == "__main__":
    called = os.path.abspath(sys.argv[0])
    try:
        main(os.path.join(os.path.dirname(os.path.dirname(called)), "irods"), os.path.basename(called), sys.argv[1:])
    except OSError as error:
        sys.exit(f"remote addresses: 127.0.0.1 ERROR: {os.path.basename(called)}: {error}")
