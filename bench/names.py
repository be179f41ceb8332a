#!/usr/bin/env python3
"""A router with many bound names, seen from outside: memory per name, and how long a steady stream of requests on
one of them stands while the others are bound, endpoints change, strangers ask for names that do not exist, metrics
are read and the page is shown.

    cargo build --release -p switchyard && cargo build --release --manifest-path bench/tools/Cargo.toml
    bench/names.py target/release/switchyard 10000

One worker, `io.l5d.fs`, one endpoint for each name. The stream asks every 2 ms over one connection, from this
process, whose own pauses count: compare with the line `nothing`.
"""
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
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
        measure(router.pid, count, names)
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


def measure(pid, count, names):
    client, steady = Client(), Client()
    client.ask("n00000")
    time.sleep(3)
    took, ended = [], threading.Event()

    def stream():
        while not ended.is_set():
            took.append(steady.ask("n00000")[1])
            time.sleep(0.002)

    def phase(name, work):
        first, busy, begun = len(took), cpu(pid), time.monotonic()
        work()
        passed = time.monotonic() - begun
        times = sorted(took[first:])
        print(f"{name:<28} {passed:6.1f} s  CPU {cpu(pid) - busy:6.2f} s  stream: p50 {times[len(times) // 2] * 1e3:6.2f}"
              f"  p99 {times[len(times) * 99 // 100] * 1e3:6.1f}  max {times[-1] * 1e3:6.1f} ms", flush=True)

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

    thread = threading.Thread(target=stream)
    thread.start()
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
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    main()
