"""Runs scripts as new Python processes would, in forks of this one, which has imported torch.

Reads a request of JSON a line, and answers with a line: the exit code. The output of the script
goes to the files that the request names.
"""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from typing import Any

import torch  # noqa: F401

from mld_core import hookimpl  # noqa: F401


def run(request: dict[str, Any]) -> int:
    """Run a script in this process; its exit code."""
    for descriptor, path in enumerate(request["outputs"], 1):
        os.dup2(os.open(path, os.O_WRONLY), descriptor)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv[:] = ["-c", *request["words"]]
    sys.path[:0] = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.stdin = io.StringIO(request["input"])
    try:
        exec(compile(request["code"], sys.argv[0], "exec"), {"__name__": "__main__"})
    except SystemExit as error:
        if isinstance(error.code, str):
            sys.stderr.write(f"{error.code}\n")
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = run(json.loads(line))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
