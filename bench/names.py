#!/usr/bin/env python3
"""A router with many bound names, seen from outside: memory per name, and how long a steady stream of requests on
one of them stands while the others are bound, endpoints change, strangers ask for names that do not exist, metrics
are read and the page is shown.

    cargo build --release -p switchyard && cargo build --release --manifest-path bench/tools/Cargo.toml
    bench/names.py target/release/switchyard 10000

One worker, `io.l5d.fs`, one endpoint for each name. The stream is `bench/tools`' probe, a request each millisecond
over one connection. Where this may (root), the worker, the backend and the probe get a real-time priority, so that
what is slow is the worker and not a neighbour on the machine; compare with the lines `nothing`.
"""
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ENDPOINT, SERVER, ADMIN = 18100, 18101, 18190


class Client:
    """One kept-alive connection, one request at a time."""

    def __init__(self):
        for _ in range(300):
            try:
                self.socket = socket.create_connection(("127.0.0.1", SERVER))
                return
            except OSError:
                time.sleep(0.1)
        sys.exit("the router does not listen after 30 s")

    def ask(self, host):
        """The status, and how long it took in seconds."""
        begun = time.monotonic()
        self.socket.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.some()
        head, _, body = answer.partition(b"\r\n\r\n")
        lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        while len(body) < lengths[0]:
            body += self.some()
        return int(head.split()[1]), time.monotonic() - begun

    def some(self):
        got = self.socket.recv(65536)
        if not got:
            sys.exit("the router closed the connection")
        return got


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    program, count = sys.argv[1], int(sys.argv[2])
    directory = tempfile.mkdtemp(prefix="switchyard-names-")
    names = os.path.join(directory, "names")
    os.mkdir(names)
    for number in range(count):
        with open(f"{names}/n{number:05}", "w") as file:
            file.write(f"127.0.0.1 {ENDPOINT}\n")
    document = f"""
admin: {{ip: 127.0.0.1, port: {ADMIN}}}
namers: [{{kind: io.l5d.fs, rootDir: {names}}}]
routers:
- protocol: http
  dtab: /svc => /#/io.l5d.fs
  bindingCache: {{paths: {2 * count}, trees: {2 * count}, bounds: {2 * count}, clients: {2 * count}}}
  servers: [{{ip: 127.0.0.1, port: {SERVER}}}]
"""
    with open(f"{directory}/linkerd.yaml", "w") as file:
        file.write(document)
    backend = subprocess.Popen([f"{HERE}/tools/target/release/backend", f"127.0.0.1:{ENDPOINT}"])
    command = [program, "router", "--workers", "1", "--handover", "off", f"{directory}/linkerd.yaml"]
    router = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        measure(router.pid, backend.pid, count, names)
    finally:
        router.terminate()
        router.wait()
        backend.kill()
        shutil.rmtree(directory)


def memory(pid):
    """Of the process itself, without program text, in KiB."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))


def cpu(pid):
    """Seconds, of all threads."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def worker(pid):
    """The thread of the only worker."""
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/comm") as file:
            if file.read().strip() == "worker-0":
                return int(task)
    sys.exit("the router has no worker-0")


def prefer(threads):
    """Gives them a real-time priority, if this may."""
    try:
        for thread in threads:
            os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(10))
    except OSError as error:
        print(f"no real-time priority ({error}): the machine's other work counts")


def measure(pid, backend, count, names):
    client = Client()
    client.ask("n00000")
    time.sleep(3)
    command = [f"{HERE}/tools/target/release/probe", f"127.0.0.1:{SERVER}", "n00000", "1000"]
    probe = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    prefer([worker(pid), backend, probe.pid])

    def took():
        probe.stdin.write("\n")
        probe.stdin.flush()
        return json.loads(probe.stdout.readline() or sys.exit("the probe ended"))

    def phase(name, work):
        took()
        busy, begun = cpu(pid), time.monotonic()
        work()
        passed = time.monotonic() - begun
        of = took()
        print(f"{name:<28} {passed:6.1f} s  CPU {cpu(pid) - busy:6.2f} s  stream of {of['requests']:6}: p50 {of['p50']:5}"
              f"  p99 {of['p99']:5}  p99.9 {of['p999']:6}  max {of['max']:6} us, {of['over_1ms']} over 1 ms", flush=True)

    def all_names():
        for number in range(count):
            status, _ = client.ask(f"n{number:05}")
            if status != 200:
                sys.exit(f"n{number:05}: {status}")

    def changes():
        for number in range(5):
            with open(f"{names}/.next", "w") as file:
                file.write(f"127.0.0.1 {ENDPOINT}\n127.0.0.1 {ENDPOINT + 1}\n")
            os.rename(f"{names}/.next", f"{names}/n{count // 2 + number:05}")
            time.sleep(1)

    def strangers():
        for number in range(5000):
            client.ask(f"nobody{number}")

    def read(path):
        connection = http.client.HTTPConnection("127.0.0.1", ADMIN)
        connection.request("GET", path)
        print(f"  {path}: {len(connection.getresponse().read()) // 1024} KiB")

    try:
        phase("nothing", lambda: time.sleep(5))
        before = memory(pid)
        phase(f"{count} names bound", all_names)
        time.sleep(1)
        after = memory(pid)
        print(f"  memory: {before // 1024} MiB before, {after // 1024} MiB after: {(after - before) / count:.1f} KiB a name")
        phase("nothing", lambda: time.sleep(15))
        phase("all of them again", all_names)
        phase("5 endpoints change", changes)
        phase("5000 strangers' names", strangers)
        phase("metrics.json", lambda: read("/admin/metrics.json"))
        phase("prometheus", lambda: read("/admin/metrics/prometheus"))
        phase("the page", lambda: read("/"))
        connection = http.client.HTTPConnection("127.0.0.1", ADMIN)
        connection.request("GET", "/admin/metrics.json?q=worker")
        figures = json.loads(connection.getresponse().read())
        of = lambda name: " ".join(f"{what} {figures[f'{name}.{what}']}" for what in ["count", "p50", "p99", "p9990", "max"])
        print(f"turns of housekeeping in the last minute, us: {of('pause_us')}; on the CPU: {of('pause_cpu_us')}")
    finally:
        probe.terminate()


if __name__ == "__main__":
    main()
