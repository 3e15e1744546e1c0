"""A process with everything imported, which forks one child for each command: starting it takes no time.

Reads a JSON list of arguments per line, answers ``PID`` at once and the child's exit status when it has ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys

import torch

import aweigh.export.cli.verbs
import aweigh.serve.cli.verbs
import aweigh.serve.server
import aweigh.train.run.session  # noqa: F401
from aweigh.runtime.cli.main import main

torch.set_num_threads(1)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored, and what is ignored stays so
for line in sys.stdin:
    arguments = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setsid()
        os.dup2(2, 1)  # what the command prints is not an answer of this process
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        code = 1
        try:
            code = main(arguments)
        finally:
            sys.stderr.flush()
            os._exit(code)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
