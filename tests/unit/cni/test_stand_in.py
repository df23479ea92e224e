"""The Python stand-in for the C executable, where timing matters."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

from dovetail.cni.frame import pack_answer

STAND_IN = Path(__file__).parents[3] / "shim" / "dovetail-cni.py"
SLOW = """
import _socket, runpy, select, sys

class Slow(_socket.socket):
    def sendmsg(self, *args):
        sent = super().sendmsg(*args)
        poller = select.poll()
        poller.register(self.fileno(), select.POLLHUP)
        assert poller.poll(20000), "the daemon has not closed"
        return sent

_socket.socket = Slow
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_an_answer_that_is_there_before_it_goes_on_is_taken(tmp_path: Path) -> None:
    program = tmp_path / "dovetail"
    shutil.copyfile(STAND_IN, program)
    (tmp_path / ".dovetail").write_text(f"run_dir={tmp_path}\npython=/bin/false\n", encoding="ascii")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{tmp_path}/cni.sock")
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(pack_answer(0, b'{"answered": true}'))

        daemon = threading.Thread(target=answer)
        daemon.start()
        done = subprocess.run(
            [sys.executable, "-IS", "-c", SLOW, str(program)],
            env={"PATH": os.environ["PATH"], "CNI_COMMAND": "ADD"},
            input=b"{}",
            capture_output=True,
            timeout=60,
            check=False,
        )
        daemon.join(20)

    assert (done.returncode, done.stdout, done.stderr) == (0, b'{"answered": true}', b"")
