"""Redis's address, as one URL says it: one server, a cluster, or what Sentinels watch. Pure.

    redis://host:6379/0                                     one server; rediss:// with TLS
    unix:///run/redis.sock                                  one server on this machine
    redis+sentinel://host:26379,other:26379/mymaster/0      whoever is master; rediss+sentinel:// with TLS
    redis+cluster://host:6379,other:6379                    a Redis Cluster; rediss+cluster:// with TLS

A name and a password before an @ are those of the servers, not of the Sentinels.
"""

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit, urlunsplit

PATTERN = r"^rediss?(\+sentinel|\+cluster)?://|^unix://"
EXAMPLE = "redis://127.0.0.1:8379"

_PORTS = {"sentinel": 26379, "cluster": 6379}

Kind = Literal["server", "sentinel", "cluster"]
Node = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Place:
    """url: of one server, as redis-py reads it, with everything that is not a host. nodes: of a cluster, or Sentinels.

    service: the name of the master that Sentinels watch.
    """

    kind: Kind
    url: str = field(repr=False)
    nodes: tuple[Node, ...] = ()
    service: str = ""


def parse(url: str) -> Place:
    """Raises ValueError with a sentence."""
    parts = urlsplit(url)
    base, _, kind = parts.scheme.partition("+")
    if base not in ("redis", "rediss", "unix") or (kind and (kind not in _PORTS or base == "unix")):
        raise ValueError(f"an address of Redis begins with redis://, rediss:// or unix://, such as {EXAMPLE}")
    if not kind:
        if "," in parts.netloc:
            raise ValueError("several hosts are a cluster's (redis+cluster://) or Sentinels' (redis+sentinel://)")
        return Place("server", url)
    user, at, hosts = parts.netloc.rpartition("@")
    nodes = tuple(_node(host, _PORTS[kind]) for host in hosts.split(","))
    if kind == "cluster":
        if parts.path.strip("/") not in ("", "0"):
            raise ValueError("a Redis Cluster has no databases: leave out what stands behind its hosts")
        return Place("cluster", urlunsplit((base, f"{user}{at}cluster", "", parts.query, "")), nodes)
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("the name of the master is missing behind the Sentinels, as in redis+sentinel://host/mymaster")
    if database and not database.isdecimal():
        raise ValueError(f"{database!r} is no number of a database, as in redis+sentinel://host/mymaster/0")
    server = urlunsplit((base, f"{user}{at}sentinel", f"/{database or 0}", parts.query, ""))
    return Place("sentinel", server, nodes, unquote(service))


def _node(text: str, port: int) -> Node:
    try:
        parts = urlsplit(f"redis://{text}")
        host, given = parts.hostname, parts.port
    except ValueError:
        host, given = None, None
    if not host:
        raise ValueError(f"{text!r} is no host:port")
    return host, given or port
