"""Speaks to an ssh agent: agent.py VERB SOCKET."""
import os
import socket
import struct
import sys


def connect(path):
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(20)
    stream.connect(path)
    return stream


def receive(stream, size):
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def ask(stream, message):
    stream.sendall(struct.pack(">I", len(message)) + message)
    (size,) = struct.unpack(">I", receive(stream, 4))
    return receive(stream, size)


def text(data, at):
    (size,) = struct.unpack_from(">I", data, at)
    return data[at + 4 : at + 4 + size], at + 4 + size


def identities(stream):
    reply = ask(stream, b"\x0b")
    assert reply[0] == 12, reply
    (count,) = struct.unpack_from(">I", reply, 1)
    at, found = 5, []
    for _ in range(count):
        key, at = text(reply, at)
        comment, at = text(reply, at)
        found.append((key, comment.decode()))
    return found


def sign(stream):
    key = identities(stream)[0][0]
    packed = lambda data: struct.pack(">I", len(data)) + data
    return ask(stream, b"\x0d" + packed(key) + packed(b"data") + struct.pack(">I", 0))[0]


def refused(call):
    try:
        call()
    except (OSError, EOFError) as error:
        return getattr(error, "errno", None) or "end"
    return "done"


def attack(path):
    # All other messages, with and without a body, long ones, too.
    stream = connect(path)
    for kind in set(range(256)) - {11, 13}:
        for body in (b"", b"\0\0\0\4lock", b"x" * 70000):
            reply = ask(stream, bytes([kind]) + body)
            assert reply == b"\x05", (kind, reply)
    # What is no key is not signed with.
    assert ask(stream, b"\x0d")[0] == 5
    # Lengths that nobody has.
    for size in (0, 262145, 1 << 31, (1 << 32) - 1):
        stream = connect(path)
        stream.sendall(struct.pack(">I", size) + b"\x0b" * 100)
        assert refused(lambda: receive(stream, 1)) != "done", size
    # The socket stays what and whose it is.
    for name, call in (
        ("chmod", lambda: os.chmod(path, 0o777)),
        ("chown", lambda: os.chown(path, 1, 1)),
        ("unlink", lambda: os.unlink(path)),
        ("rename", lambda: os.rename(path, path + "2")),
    ):
        assert refused(call) != "done", name
    assert refused(lambda: os.listdir(path + "/..")) != "done"
    # Many who say little, as long as they are let in; some who never listen.
    crowd = []
    for number in range(600):
        stream = socket.socket(socket.AF_UNIX)
        stream.setblocking(False)
        if stream.connect_ex(path):
            break
        refused(lambda: stream.send(b"\0\0\1\0\x0d" if number % 2 else b"\0\0\0\1\x0b" * 50))
        crowd.append(stream)
    assert len(crowd) > 32, len(crowd)
    for stream in crowd:
        stream.close()
    # Then there is room again.
    print(len(identities(connect(path))))


verb, path = sys.argv[1:]
if verb == "list":
    print(" ".join(comment for _, comment in identities(connect(path))))
elif verb == "sign":
    print(sign(connect(path)))
elif verb == "try":
    print(refused(lambda: connect(path)))
elif verb == "raw":
    stream = connect(path)
    stream.sendall(b"\0\xff no agent")
    stream.shutdown(socket.SHUT_WR)
    print(receive(stream, 11))
elif verb == "attack":
    attack(path)
