"""Many clients in one process, to be stopped or cut off: `python crowd.py HOST PORT COUNT PATH`.

Prints `ready` once every stream has begun, then reads no more.
"""

from __future__ import annotations

import socket
import sys
import threading

host, port, count, path = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
connections = []
for _ in range(count):
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.connect((host, port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    connections.append(connection)
for connection in connections:
    text = b""
    while b"\nid: " not in text:
        data = connection.recv(4096)
        assert data, text
        text += data
print("ready", flush=True)
threading.Event().wait()
