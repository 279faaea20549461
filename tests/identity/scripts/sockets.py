"""Sockets of the Unix kind: owners of their files, rights to connect, and who is at the other end."""
import os
import socket
import struct
import subprocess
import sys

P = "/probe/p"


def become(uid, gid, groups):
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def in_child(work, *who):
    """Returns what `work` returns in a child that is somebody else."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if who:
                become(*who)
            word = str(work())
        except OSError as error:
            word = os.strerror(error.errno)
        os.write(writing, word.encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()


def owner(path):
    status = os.lstat(path)
    return f"{status.st_uid}:{status.st_gid}:{status.st_mode & 0o7777:o}"


def peer(connection):
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, gid = struct.unpack("3i", data)
    return f"{uid}:{gid}"


def listen(path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(8)
    return server


def connect(path):
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    return client


WWW = (33, 33, [33])
APP = (1000, 1001, [33, 1001])
os.makedirs("/w")
os.chdir("/w")
os.umask(0o022)
server = listen("root")
print("bound=" + owner("root"))
print("mode=" + in_child(lambda: connect("root") and "ok", *WWW))
os.chmod("root", 0o666)
print("opened=" + in_child(lambda: connect("root") and "ok", *WWW))
print("peer=" + peer(server.accept()[0]))
os.chown("root", 33, 34)
os.chmod("root", 0o600)
print("given=" + owner("root"))
print("owner=" + in_child(lambda: connect("root") and "ok", *WWW))
print("peer-owner=" + peer(server.accept()[0]))
print("other=" + in_child(lambda: connect("root") and "ok", *APP))
print("server=" + in_child(lambda: peer(connect("root"))))


def by_user():
    own = listen("/tmp/www")
    words = [owner("/tmp/www")]
    os.chmod("/tmp/www", 0o660)
    os.chown("/tmp/www", 33, 33)
    words.append(owner("/tmp/www"))
    try:
        os.chown("/tmp/www", 0, 0)
    except OSError as error:
        words.append(os.strerror(error.errno))
    try:
        listen("/w/refused")
    except OSError as error:
        words.append(os.strerror(error.errno))
    client = connect("/tmp/www")
    words.append(peer(own.accept()[0]))
    words.append(peer(client))
    abstract = listen("\0probe")
    client = connect("\0probe")
    words.append(peer(abstract.accept()[0]))
    first, _ = socket.socketpair()
    words.append(peer(first))
    return " ".join(words)


print("user=" + in_child(by_user, *WWW))


def messages():
    """SCM_CREDENTIALS: what one may claim, and what the other end sees."""
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    second.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    words = []
    for claim in (None, (os.getuid(), os.getgid()), (0, 0), (8, 8)):
        extra = []
        if claim:
            extra = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("3i", os.getpid(), *claim))]
        try:
            first.sendmsg([b"x"], extra)
        except OSError as error:
            words.append(os.strerror(error.errno))
            continue
        _, control, _, _ = second.recvmsg(1, 100)
        _, uid, gid = struct.unpack("3i", control[0][2][:12])
        words.append(f"{uid}:{gid}")
    return " ".join(words)


print("message-root=" + in_child(messages))
print("message-user=" + in_child(messages, *WWW))
print("gone=" + in_child(lambda: (os.unlink("/w/root"), "removed")[1], *WWW), owner("/tmp/www"))
print("static=" + subprocess.run([P, "do", "bind:/w/s", "stat:/w/s", "connect:/w/s"], capture_output=True, text=True).stdout.strip())
sys.stdout.flush()
