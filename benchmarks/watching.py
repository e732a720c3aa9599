"""What a process and everything below it take, looked up in /proc and psutil while it runs."""

import re
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.5


@dataclass
class Watch:
    """Samples a process and its descendants until the process ends."""

    peak: int = 0
    """Highest sum of the proportional set sizes, bytes: pages that processes share count once."""
    actor: int = 0
    """Highest RssAnon of a model actor of Ray and of its child process together, bytes."""
    cpu: dict[int, float] = field(default_factory=lambda: defaultdict[int, float](float))
    """Seconds of each process, as of the last look."""

    def start(self, pid: int) -> threading.Thread:
        """Watch in a thread, which ends with the process."""
        thread = threading.Thread(target=self._watch, args=(pid,), daemon=True)
        thread.start()
        return thread

    @property
    def cpu_seconds(self) -> float:
        """Of all processes together."""
        return sum(self.cpu.values())

    def _watch(self, pid: int) -> None:
        while psutil.pid_exists(pid):
            try:
                root = psutil.Process(pid)
                if root.status() == psutil.STATUS_ZOMBIE:
                    return
                processes = [root, *root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            self.peak = max(self.peak, sum(_proportional(process.pid) for process in processes))
            for process in processes:
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    self.cpu[process.pid] = times.user + times.system
                    if "ItemActor" in "".join(process.cmdline()[:1]):
                        actor = [process, *process.children(recursive=True)]
                        self.actor = max(self.actor, sum(memory("RssAnon", each.pid) for each in actor))
            time.sleep(SAMPLE_SECONDS)


def memory(kind: str, pid: int | None = None) -> int:
    """Bytes of a process, this one without `pid`: `RssAnon`, `RssFile` or `VmHWM`; 0 where it has ended."""
    try:
        text = Path(f"/proc/{pid or 'self'}/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"^{kind}:\s+(\d+)", text, re.MULTILINE)
    return 0 if found is None else int(found[1]) * 1024


def _proportional(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # it has ended
        return 0
    found = re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)
    return 0 if found is None else int(found[1]) * 1024
