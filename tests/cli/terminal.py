#!/usr/bin/env python3
"""Runs a command on a terminal of its own and plays a person.

    terminal.py STEP... -- COMMAND...

A STEP is expect:TEXT (waits until TEXT came) or send:TEXT (\\xNN and the like
are understood). Prints all that came, then "terminal restored" or "terminal
changed", comparing its modes before and after, then "status N".
"""
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time

TIMEOUT = 30


def read_some(master, seconds):
    ready, _, _ = select.select([master], [], [], seconds)
    if not ready:
        return None
    try:
        return os.read(master, 4096)
    except OSError:
        return b""


def main():
    split = sys.argv.index("--")
    steps, command = sys.argv[1:split], sys.argv[split + 1:]
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)

    def own_terminal():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave,
                             preexec_fn=own_terminal)
    seen, at = b"", 0
    deadline = time.monotonic() + TIMEOUT
    for step in steps:
        kind, text = step.split(":", 1)
        data = text.encode().decode("unicode_escape").encode("latin-1")
        if kind == "send":
            os.write(master, data)
            continue
        while data not in seen[at:]:
            if time.monotonic() > deadline:
                print(f"waited in vain for {data!r}; came: {seen!r}")
                child.kill()
                return 1
            seen += read_some(master, 0.1) or b""
        at = seen.index(data, at) + len(data)
    while child.poll() is None and time.monotonic() < deadline:
        seen += read_some(master, 0.1) or b""
    if child.poll() is None:
        print("the command did not end")
        child.kill()
    while True:
        more = read_some(master, 0.1)
        if not more:
            break
        seen += more
    after = termios.tcgetattr(slave)
    sys.stdout.write(seen.decode("latin-1").replace("\r\n", "\n"))
    print("terminal restored" if after == before else "terminal changed")
    print("status", child.wait())
    return 0


if __name__ == "__main__":
    sys.exit(main())
