"""TCP connections as the kernel lists them, and their end by its hand (sock_diag(7), SOCK_DESTROY; Linux, as root)."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Collection, Iterable
from pathlib import Path
from stat import S_ISSOCK

import msgspec

from chaos.kind import FaultError
from chaos.processes import Identity

_ESTABLISHED = "01"
_NETLINK_SOCK_DIAG, _SOCK_DESTROY, _NLMSG_ERROR = 4, 21, 2
_REQUEST_AND_ACK = 0x1 | 0x4
_HEADER = struct.Struct("=IHHII")
_ANY_STATE, _NO_COOKIE, _NO_DEVICE = 0xFFFF, b"\xff" * 8, 0
_ANSWER_BYTES = 4096


class Connection(msgspec.Struct, frozen=True):
    """One end of an established connection on this machine."""

    host: str
    port: int
    peer_host: str
    peer_port: int
    inode: int
    unread_bytes: int
    """received, and not read by its process"""

    @property
    def peer(self) -> str:
        """Who is at the other end."""
        return f"{self.peer_host}:{self.peer_port}"


def established(inodes: Collection[int]) -> list[Connection]:
    """The established connections among these sockets."""
    found = []
    for name in ("tcp", "tcp6"):
        path = Path("/proc/net", name)
        for line in path.read_text(encoding="ascii").splitlines()[1:] if path.exists() else []:
            words = line.split()
            if words[3] == _ESTABLISHED and int(words[9]) in inodes:
                unread = int(words[4].partition(":")[2], 16)
                found.append(Connection(*_address(words[1]), *_address(words[2]), int(words[9]), unread))
    return found


def sockets_of(processes: Iterable[Identity]) -> set[int]:
    """Inodes of the sockets that these processes have open; a process that ends meanwhile has none."""
    found = set()
    for process in processes:
        for descriptor in Path(f"/proc/{process.pid}/fd").glob("*"):
            try:
                state = descriptor.stat()
            except OSError:  # closed meanwhile
                continue
            if S_ISSOCK(state.st_mode):
                found.add(state.st_ino)
    return found


def destroy(connections: Iterable[Connection]) -> int:
    """Abort them: both ends see a reset. Returns how many were still there. Raises FaultError, OSError."""
    count = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(2.0)
        for connection in connections:
            kernel.send(_request(connection))
            code = -struct.unpack_from("=i", kernel.recv(_ANSWER_BYTES), _HEADER.size)[0]
            if code in (errno.EPERM, errno.EOPNOTSUPP):
                raise FaultError(f"the kernel refuses to end connections: {os.strerror(code)} (needs CAP_NET_ADMIN)")
            count += code == 0  # else it ended by itself
    return count


def _request(connection: Connection) -> bytes:
    local, peer = ipaddress.ip_address(connection.host), ipaddress.ip_address(connection.peer_host)
    family = socket.AF_INET if local.version == 4 else socket.AF_INET6
    ports = struct.pack("!HH", connection.port, connection.peer_port)
    addresses = local.packed.ljust(16, b"\0") + peer.packed.ljust(16, b"\0")
    body = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, _ANY_STATE)
    body += ports + addresses + struct.pack("=I", _NO_DEVICE) + _NO_COOKIE
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DESTROY, _REQUEST_AND_ACK, 0, 0) + body


def _address(text: str) -> tuple[str, int]:
    """Host and port in the kernel's hexadecimal form: 32-bit words in its byte order."""
    host, _, port = text.partition(":")
    words = struct.unpack(f"!{len(host) // 8}I", bytes.fromhex(host))
    return str(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))), int(port, 16)
