"""Hosts of one network on one machine: network namespaces that a bridge joins (iproute2; needs root).

The bridge is in a namespace of its own, and so goes with it whatever is plugged in. This process is on the
network as well. Processes and files are the machine's.
"""

import os
import shutil
import subprocess
from contextlib import suppress
from types import TracebackType
from typing import Self

_PREFIX = "10.213.77."
_OURS = 254
_DROP = "4,32 0 0 4294963256,53 0 1 {limit},6 0 0 0,6 0 0 2"
"""Classic BPF: a random number of 32 bits; from the limit on the packet passes (0), below it is dropped (2)."""


def why_not() -> str | None:
    """What this machine lacks for it."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    if missing:
        return f"iproute2 is not installed ({' and '.join(missing)})"
    probe = f"lb{os.getpid()}-probe"
    tried = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"no network namespaces here: {tried.stderr.strip()}"
    _ip("netns", "del", probe)
    return None


class Network:
    """A context manager: entered, the hosts are there; left, nothing of it is."""

    def __init__(self, *hosts: str) -> None:
        self.hosts = hosts
        self._own = f"lb{os.getpid()}"
        self._switch = f"{self._own}-switch"

    def __enter__(self) -> Self:
        try:
            self._add(self._switch)
            _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
            _ip("-n", self._switch, "link", "set", "bridge", "up")
            for host in self.hosts:
                name = self._name(host)
                self._add(name)
                self._plug(host, "eth0", "netns", name)
                _ip("-n", name, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
                _ip("-n", name, "link", "set", "eth0", "up")
            self._plug("ours", self._own)
            _ip("addr", "add", f"{_PREFIX}{_OURS}/24", "dev", self._own)
            _ip("link", "set", self._own, "up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in (self._switch, *map(self._name, self.hosts)):
            with suppress(subprocess.CalledProcessError):  # it never came to be
                _ip("netns", "del", name)

    def address(self, host: str) -> str:
        """Its IPv4 address."""
        return f"{_PREFIX}{self.hosts.index(host) + 1}"

    def on(self, host: str) -> tuple[str, ...]:
        """What a command line begins with that runs there."""
        return ("ip", "netns", "exec", self._name(host))

    def cut(self, host: str) -> None:
        """Take its cable out of the switch."""
        _ip("-n", self._switch, "link", "set", f"port-{host}", "down")

    def mend(self, host: str) -> None:
        """Put it back."""
        _ip("-n", self._switch, "link", "set", f"port-{host}", "up")

    def lose_packets(self, share: float) -> str:
        """Each packet to a host is lost with this probability from now on; by what the kernel does it."""
        for host in self.hosts:
            if not _can("tc", "-n", self._name(host), *f"qdisc add dev eth0 root netem loss {share:%}".split()):
                break
        else:
            return "tc netem"
        self.lose_nothing()
        for host in self.hosts:
            _tc(self._name(host), "qdisc", "add", "dev", "eth0", "clsact")
            code = _DROP.format(limit=int(share * 2**32))
            _tc(self._name(host), *["filter", "add", "dev", "eth0", "ingress", "bpf", "da", "bytecode"], code)
        return "a tc filter, as the kernel has no netem"

    def lose_nothing(self) -> None:
        """End of that."""
        for host in self.hosts:
            for place in ("root", "clsact"):
                _can("tc", "-n", self._name(host), "qdisc", "del", "dev", "eth0", place)

    def _name(self, host: str) -> str:
        return f"{self._own}-{host}"

    def _add(self, namespace: str) -> None:
        _ip("netns", "add", namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")

    def _plug(self, host: str, device: str, *where: str) -> None:
        """A cable from `device` to the switch."""
        port = f"port-{host}"
        _ip("link", "add", device, *where, "type", "veth", "peer", "name", port, "netns", self._switch)
        _ip("-n", self._switch, "link", "set", port, "master", "bridge", "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _tc(namespace: str, *arguments: str) -> None:
    subprocess.run(["tc", "-n", namespace, *arguments], check=True)


def _can(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
