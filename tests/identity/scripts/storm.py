"""Many processes at once, killed ones, and short ones."""
import os
import random
import signal
import subprocess
import sys
import time

P = "/probe/p"


def wait_all(pids):
    return sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in pids)


def crowd():
    """Five hundred at the same time, each somebody else, each with a file of its own."""
    os.makedirs("/w/crowd", exist_ok=True)
    os.chmod("/w/crowd", 0o1777)
    reading, writing = os.pipe()
    pids = []
    for number in range(500):
        pid = os.fork()
        if pid == 0:
            os.close(writing)
            uid = 1 + number
            os.setgroups([uid])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.read(reading, 1)
            path = f"/w/crowd/{number}"
            good = True
            for round_ in range(5):
                with open(path, "w"):
                    pass
                status = os.stat(path)
                good &= (status.st_uid, status.st_gid) == (uid, uid)
                good &= os.getresuid() == (uid, uid, uid) and os.getgroups() == [uid]
                os.unlink(path)
            with open(path, "w"):
                pass
            os._exit(0 if good else 1)
        pids.append(pid)
    os.close(reading)
    os.close(writing)
    return wait_all(pids)


def short():
    """A thousand that end at once; numbers of processes come round."""
    wrong = 0
    for number in range(1000):
        pid = os.fork()
        if pid == 0:
            uid = 1 + number % 60000
            os.setresuid(uid, uid, uid)
            os._exit(0 if os.geteuid() == uid else 1)
        wrong += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0
        if os.geteuid() != 0:
            wrong += 1
    return wrong


def killed():
    """Killed in the midst of calls, as somebody else and as root."""
    generator = random.Random(1)
    for number in range(100):
        pid = os.fork()
        if pid == 0:
            if number % 2:
                os.setresuid(33, 33, 33)
            while True:
                os.stat("/etc/shadow")
                try:
                    os.chown("/w/victim", number, number)
                    with open(f"/tmp/k{number}", "w"):
                        pass
                    os.unlink(f"/tmp/k{number}")
                    os.listdir("/w")
                except OSError:
                    pass
        time.sleep(generator.random() * 0.01)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    # All goes on working.
    os.chown("/w/victim", 33, 34)
    status = os.stat("/w/victim")
    return (status.st_uid, status.st_gid)


def threads():
    """Threads that stat, chown and become, while others do the same."""
    import threading
    wrong = []

    def work(number):
        path = f"/w/thread-{number}"
        for round_ in range(50):
            with open(path, "w"):
                pass
            os.chown(path, number + 1, round_)
            status = os.stat(path)
            if (status.st_uid, status.st_gid) != (number + 1, round_):
                wrong.append(path)
            os.unlink(path)

    all_ = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in all_:
        thread.start()
    for thread in all_:
        thread.join()
    # One thread's change is the process's, by libc.
    pid = os.fork()
    if pid == 0:
        ready = threading.Event()
        go = threading.Event()
        seen = []

        def other():
            ready.set()
            go.wait()
            seen.append(os.geteuid())

        thread = threading.Thread(target=other)
        thread.start()
        ready.wait()
        os.setuid(33)
        go.set()
        thread.join()
        os._exit(0 if seen == [33] else 1)
    return len(wrong) + wait_all([pid])


def signals():
    """Who may signal whom."""
    server = os.fork()
    if server == 0:
        os.setresuid(33, 33, 33)
        time.sleep(60)
    time.sleep(0.2)
    words = []
    for uid in (33, 34, 0):
        answer = subprocess.run([P, "do", f"setuid:{uid}", f"kill:{server}"], capture_output=True, text=True)
        words.append(answer.stdout.split()[-1])
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)
    return " ".join(words)


os.makedirs("/w", exist_ok=True)
with open("/w/victim", "w"):
    pass
print("crowd=", crowd())
print("short=", short())
print("killed=", killed())
print("threads=", threads())
print("signals=", signals())
owners = [os.stat(f"/w/crowd/{number}").st_uid for number in range(500)]
print("files=", owners == list(range(1, 501)))
sys.stdout.flush()
