"""What a process and everything below it take, looked up in /proc and psutil while it runs."""

import re
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psutil

_ACTOR_SECONDS = 0.25
"""Between two looks at the memory of actors: it rises and falls with each batch."""
_LOOKS = 4
"""At actors, for one at the CPU time of all processes."""
_SECONDS_OF_MEMORY = 5.0
"""Between two looks at the memory of all processes, for which the kernel goes through all their pages: twice
a second it took a tenth of a core from what was measured.
"""


@dataclass
class Watch:
    """Samples a process and its descendants until the process ends."""

    memory_seconds: float = _SECONDS_OF_MEMORY
    """Between two looks at `peak`."""
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
        actors: list[list[int]] = []
        every = max(1, round(self.memory_seconds / (_LOOKS * _ACTOR_SECONDS)))
        for look in count():
            try:
                root = psutil.Process(pid)
                if root.status() == psutil.STATUS_ZOMBIE:
                    return
                if look % _LOOKS == 0:
                    processes = [root, *root.children(recursive=True)]
                    actors = self._look(processes)
                    if look // _LOOKS % every == 0:
                        self.peak = max(self.peak, sum(_proportional(each.pid) for each in processes))
            except psutil.NoSuchProcess:
                return
            for actor in actors:
                self.actor = max(self.actor, sum(memory("RssAnon", each) for each in actor))
            time.sleep(_ACTOR_SECONDS)

    def _look(self, processes: list[psutil.Process]) -> list[list[int]]:
        """Note the CPU time of `processes`; the ids of each model actor's among them."""
        actors: list[list[int]] = []
        for process in processes:
            with suppress(psutil.Error):
                times = process.cpu_times()
                self.cpu[process.pid] = times.user + times.system
                if "ItemActor" in "".join(process.cmdline()[:1]):
                    actors.append([each.pid for each in (process, *process.children(recursive=True))])
        return actors


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
