"""What the load benchmarks ask servers with, and what they know of texts and arrivals."""

import asyncio
import csv
import dataclasses
import datetime
import json
import time
from pathlib import Path

import httpx
import numpy as np
from load_systems import SERVERS, Route, Speeds, System

CLIENTS = 64  # of a closed loop
CONNECTIONS = 256  # more are opened where they are needed


def gaps(arrivals: str, number: int, seed: int) -> np.ndarray:
    """So many gaps between arrivals, of mean 1."""
    rng = np.random.default_rng(seed)
    if arrivals == "poisson":
        return rng.exponential(1.0, number)
    if arrivals == "gamma":
        return rng.gamma(1 / 16, 16.0, number)  # cv 4
    with open(arrivals, newline="", encoding="utf-8-sig") as file:
        stamps = [row["TIMESTAMP"][:26] for row in csv.DictReader(file)]
    times_s = [datetime.datetime.fromisoformat(stamp).timestamp() for stamp in stamps]
    found = np.diff(np.sort(times_s))
    start = rng.integers(max(1, len(found) - number))
    found = np.resize(found[start : start + number], number)
    return found / found.mean()


class Connections:
    """Open connections to a server, each for one request at a time: a client that costs little."""

    def __init__(self, host: str, port: int):
        self._host, self._port, self._free = host, port, []

    async def post(self, path: str, body: dict) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by lower-case names, and body."""
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(content)}\r\n\r\n"
        while self._free and self._free[-1][0].at_eof():  # the server closed it
            self._free.pop()
        reader, writer = self._free.pop() if self._free else await self._open()
        writer.write(head.encode() + content)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        found = await reader.readexactly(int(headers["content-length"]))
        self._free.append((reader, writer))
        return int(lines[0].split()[1]), headers, found

    async def open(self, number: int) -> None:
        """So many of them, before they are needed."""
        self._free += [await self._open() for _ in range(number)]

    def close(self) -> None:
        for _, writer in self._free:
            writer.close()

    async def _open(self):
        return await asyncio.open_connection(self._host, self._port, limit=2**24)


@dataclasses.dataclass(frozen=True)
class Answers:
    """What became of N requests of an open loop; times are counted from when each was due.

    Attributes:
      statuses: int [N].
      ends_ms: float [N]; infinite where the status is not 200.
      lags_ms: float [N]: how much later than due each was sent.
      speedups: float [N], expected; NaN where there is no answer.
      bodies: of each that was answered.
    """

    statuses: np.ndarray
    ends_ms: np.ndarray
    lags_ms: np.ndarray
    speedups: np.ndarray
    bodies: dict[int, bytes]


class Client:
    """Asks one server for vectors or labels, as one of its systems.

    Attributes:
      connections: to the server.
    """

    def __init__(self, connections: Connections, route: Route, beside: dict):
        self.connections, self._route, self._beside = connections, route, beside

    async def ask(self, text: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and what `read` understands."""
        body = {**self._route.body(text), **self._beside}
        return await self.connections.post(self._route.path, body)

    def read(self, answer: bytes) -> list[float] | str:
        return self._route.read(answer)

    async def open_loop(self, texts: list[str], due_s: np.ndarray) -> Answers:
        """Sends request n, of text n (and again from the first), `due_s[n]` seconds from now."""
        number, start_s = len(due_s), time.perf_counter() + 0.2
        found = Answers(
            np.zeros(number, int), np.full(number, np.inf), np.zeros(number),
            np.full(number, np.nan), {},
        )  # fmt: skip

        def since_due_ms(n: int) -> float:
            return 1e3 * (time.perf_counter() - start_s - due_s[n])

        async def ask(n: int) -> None:
            await asyncio.sleep(max(0.0, -since_due_ms(n) / 1e3))
            found.lags_ms[n] = since_due_ms(n)
            found.statuses[n], headers, body = await self.ask(texts[n % len(texts)])
            if found.statuses[n] == 200:
                found.ends_ms[n], found.bodies[n] = since_due_ms(n), body
                found.speedups[n] = float(headers.get("x-latadj-speedup", 1))

        await asyncio.gather(*(ask(n) for n in range(number)))
        return found

    async def closed_loop_per_s(self, texts: list[str], seconds: float) -> float:
        """Texts a second that are answered to CLIENTS that wait for their answers."""
        answered, end_s = 0, time.perf_counter() + seconds

        async def keep_asking(n: int) -> None:
            nonlocal answered
            while time.perf_counter() < end_s:
                status, _, _ = await self.ask(texts[n % len(texts)])
                answered += status == 200
                n += CLIENTS

        await asyncio.gather(*(keep_asking(n) for n in range(CLIENTS)))
        return answered / seconds

    async def all_answers(self, texts: list[str]) -> list[list[float] | str]:
        """Of each text once, eight at a time: a peer may compile as it meets lengths."""
        found: list = [None] * len(texts)

        async def ask_from(first: int) -> None:
            for n in range(first, len(texts), 8):
                status, _, answer = await self.ask(texts[n])
                if status == 200:
                    found[n] = self.read(answer)

        await asyncio.gather(*(ask_from(first) for first in range(8)))
        return found


async def connect(address: str) -> Connections:
    connections = Connections(*address.removeprefix("http://").split(":"))
    await connections.open(CONNECTIONS)
    return connections


def arrivals_s(arrivals: str, per_s: float, number: int, seed: int) -> np.ndarray:
    """When each of so many requests is due: seconds [N]."""
    return np.cumsum(gaps(arrivals, number, seed)) / per_s


def client_of(system: System, connections: Connections, speeds: Speeds, labels: bool) -> Client:
    route = SERVERS[system.server].routes["label" if labels else "vector"]
    return Client(connections, route, system.beside(speeds))


def speeds_of(address: str, slo_ms: float) -> Speeds:
    """Of a server of ours: the alpha nearest to an expected 2x, and the smallest."""
    found = httpx.get(f"{address}/info").json()["expected_speedup_of_alpha"]
    alphas = {float(name): speed for name, speed in found.items() if name != "dense"}
    return Speeds(min(alphas, key=lambda a: abs(alphas[a] - 2)), min(alphas), slo_ms)


def read_texts(file: str, labelled: bool, most: int) -> tuple[list[str], list[str]]:
    """Texts, and their labels if each line is a label, a tab and a text."""
    lines = [line.strip() for line in Path(file).read_text("utf-8").split("\n") if line.strip()]
    rows = [line.split("\t", 1) if labelled else ["", line] for line in lines[:most]]
    if any(len(row) != 2 for row in rows):
        raise SystemExit(f"{file}: with --labelled each line is a label, a tab and a text.")
    return [text for _, text in rows], [label for label, _ in rows]
