"""Owners by Python: what it makes, and what it sees of others' files."""
import os

BIG = 70000


def show(path):
    status = os.lstat(path)
    word = f"{status.st_uid}:{status.st_gid}:{status.st_mode & 0o7777:o}"
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    again = os.fstat(handle)
    os.close(handle)
    assert (again.st_uid, again.st_gid, again.st_mode) == (status.st_uid, status.st_gid, status.st_mode), path
    for entry in os.scandir(os.path.dirname(path)):
        if entry.name == os.path.basename(path):
            assert entry.stat(follow_symlinks=False).st_uid == status.st_uid, path
    return word


def all_of(directory, names):
    return " ".join(show(f"{directory}/{name}") for name in names)


os.makedirs("/w/python")
os.chdir("/w/python")
for name in ("file", "handle", "big"):
    open(name, "w").close()
os.chown("file", 33, 34)
os.symlink("file", "link")
os.chown("link", 8, 9, follow_symlinks=False)
with open("handle") as file:
    os.fchown(file.fileno(), 5, 6)
try:
    os.chown("big", BIG, BIG)
except OSError:
    pass
print("python.own=" + all_of("/w/python", ["file", "link", "handle", "big"]))
for name, owner in (("seen", (33, 34)), ("seen-hard", (5, 6)), ("seen-big", (BIG, BIG))):
    os.system(f": >/w/dash/{name}; chown {owner[0]}:{owner[1]} /w/dash/{name} 2>/dev/null")
print("python.sees-dash=" + all_of("/w/dash", ["seen", "link", "seen-hard", "seen-big"]))
