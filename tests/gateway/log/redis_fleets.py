"""Several real redis-servers that belong together: a cluster, and a master with a replica and a Sentinel."""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

SLOTS = 16384
MASTER = "mymaster"
NODE_TIMEOUT_MS = 1500
_WITHIN_S = 60.0


class Server(Protocol):
    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None"

    def start(self, *arguments: str) -> None: ...
    def signal(self, number: int) -> None: ...
    def kill(self) -> None: ...


class Cluster:
    """The first `masters` servers are masters, each of the others replicates one of them.

    announced: the ports that servers give as theirs, where those are of something in front of them.
    """

    def __init__(self, servers: Sequence[Server], *, masters: int = 3, announced: Sequence[int] = ()) -> None:
        self.servers = servers
        self._masters = masters
        self._announced = dict(zip((server.port for server in servers), announced, strict=False))

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.servers[0].port},127.0.0.1:{self.servers[1].port}"

    def start(self) -> None:
        """Returns once every server knows the whole cluster, replicas included."""
        for server in self.servers:
            self.start_server(server)
        for number, server in enumerate(self.servers):
            first, last = number * SLOTS // self._masters, (number + 1) * SLOTS // self._masters - 1
            with asked(server) as redis:
                if number < self._masters:
                    redis.execute_command("CLUSTER", "ADDSLOTS", *range(first, last + 1))
                    redis.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                if number:
                    redis.execute_command("CLUSTER", "MEET", "127.0.0.1", self.servers[0].port)
        eventually(lambda: all(len(nodes(server)) == len(self.servers) for server in self.servers))
        for number, server in enumerate(self.servers[self._masters :]):
            with asked(self.servers[number]) as redis:
                master = str(redis.execute_command("CLUSTER", "MYID"))
            with asked(server) as redis:
                redis.execute_command("CLUSTER", "REPLICATE", master)
        eventually(lambda: all(self._whole(server) for server in self.servers))

    def start_server(self, server: Server) -> None:
        announced = self._announced.get(server.port, server.port)
        server.start(
            *("--cluster-announce-port", str(announced), "--cluster-announce-bus-port", str(server.port + 10_000)),
            *("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
            *("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"),
        )

    def master_of(self, key: str) -> Server:
        """Whoever serves a key, as the others see it."""
        slot = key_slot(key.encode())
        for server in self.servers:
            if server.process is None:
                continue
            for found in nodes(server).values():
                if "master" in found["flags"] and "fail" not in found["flags"] and serves(found, slot):
                    return next(one for one in self.servers if one.port == found["port"])
        raise AssertionError("no server has the key")

    def replica_of(self, master: Server) -> Server:
        found = nodes(master)
        identity = next(name for name, one in found.items() if one["port"] == master.port)
        port = next(one["port"] for one in found.values() if one["master"] == identity)
        return next(one for one in self.servers if one.port == port)

    def kill(self) -> None:
        for server in self.servers:
            server.kill()

    def _whole(self, server: Server) -> bool:
        found = nodes(server).values()
        replicas = [one for one in found if one["master"] is not None and one["linked"]]
        with asked(server) as redis:
            state = str(redis.execute_command("CLUSTER", "INFO"))
            synced = redis.info("replication").get("master_link_status", "up") == "up"
        return len(replicas) == len(self.servers) - self._masters and "cluster_state:ok" in state and synced


def nodes(server: Server) -> dict[str, dict[str, Any]]:
    """The cluster as one server sees it, by the servers' ids."""
    with asked(server) as redis:
        lines = str(redis.execute_command("CLUSTER NODES", keep_text=True)).splitlines()
    found = {}
    for line in lines:
        name, address, flags, master, _, _, _, link, *slots = line.split()
        found[name] = {
            "port": int(address.partition("@")[0].rpartition(":")[2]),
            "flags": set(flags.split(",")),
            "master": None if master == "-" else master,
            "linked": link == "connected",
            "slots": slots,
        }
    return found


def serves(node: dict[str, Any], slot: int) -> bool:
    spans = (span.partition("-") for span in node["slots"] if not span.startswith("["))
    return any(int(first) <= slot <= int(last or first) for first, _, last in spans)


class Watched:
    """One is master at first. sentinel: only its folder and its port are used."""

    def __init__(self, one: Server, other: Server, sentinel: Server) -> None:
        self.one, self.other = one, other
        self._folder, self.port = sentinel.folder, sentinel.port
        self._sentinel: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/{MASTER}/0"

    def start(self, binary: str, *arguments: str) -> None:
        """Returns once the Sentinel knows both."""
        arguments = (*arguments, "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
        self.one.start(*arguments)
        self.other.start("--replicaof", "127.0.0.1", str(self.one.port), *arguments)
        with asked(self.other) as redis:
            eventually(lambda: redis.info("replication")["master_link_status"] == "up")
        settings = self._folder / "sentinel.conf"
        settings.write_text(
            f"port {self.port}\nbind 127.0.0.1\nsentinel monitor {MASTER} 127.0.0.1 {self.one.port} 1\n"
            f"sentinel down-after-milliseconds {MASTER} 1000\nsentinel failover-timeout {MASTER} 3000\n"
        )
        self._sentinel = subprocess.Popen([binary, str(settings), "--sentinel"], stdout=subprocess.DEVNULL)
        eventually(lambda: self._knows_the_replica())

    def ask(self, *command: str | int) -> Any:
        """The Sentinel's reply."""
        with Redis(port=self.port, decode_responses=True) as redis:
            return redis.execute_command(*command)

    def fail_over(self) -> None:
        """By hand, as an operator does it: the old master lives on as a replica. Returns once the other is master."""
        eventually(lambda: self.ask("SENTINEL", "FAILOVER", MASTER))  # It refuses until it knows the replica well.
        eventually(lambda: self.master_port() == self.other.port)

    def master_port(self) -> int:
        """As the Sentinel says it."""
        return int(self.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)[1])

    def kill(self) -> None:
        if self._sentinel is not None:
            self._sentinel.send_signal(signal.SIGKILL)
            self._sentinel.wait()
        self.one.kill()
        self.other.kill()

    def _knows_the_replica(self) -> bool:
        with Redis(port=self.port) as redis:
            return bool(redis.sentinel_slaves(MASTER))


def asked(server: Server) -> Redis:
    """A client of one server."""
    client = Redis(port=server.port, decode_responses=True)
    client.set_response_callback("CLUSTER NODES", lambda text, **_: text)
    return client


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while True:
        try:
            if condition():
                return
        except (RedisError, OSError):
            pass
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
