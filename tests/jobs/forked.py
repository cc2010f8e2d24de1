"""What the tests of supervised children have forked: it ends, dies, or waits to be asked to stop."""

import os
import signal
import sys
import time
from pathlib import Path

from limbeck.jobs.child import die_with_parent


def main(parent, what, told="") -> int:
    """As ``what`` says."""
    die_with_parent(parent)
    if what == "end":
        title = Path("/proc/self/cmdline").read_bytes().strip(b"\0").decode()
        print(parent, title, "json" in sys.modules, sep="\n", flush=True)
        return int(told)
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    Path(told).write_text(str(os.getpid()))
    time.sleep(60)
    return 1
