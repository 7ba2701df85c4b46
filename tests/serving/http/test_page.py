"""The page for people: as a real browser shows it, of a real server."""

import re
from html import unescape
from urllib.parse import urlencode

import numpy as np
import pytest
from browser import dom
from served import KEY, client_of

from latadj_jax.serving.http.page_routes import PAGE

EVIL = "</script><img src=x onerror=document.title='caught'> good"


def test_it_is_one_file_without_a_network():
    text = PAGE.read_text("utf-8")
    assert {*re.findall(r"(?:src|href)\s*=\s*\"?([^\">]*)", text)} == {
        "data:,", "/docs", "/info", "/metrics",
    }  # fmt: skip
    assert not re.search(r"@import|url\(|innerHTML|document\.write|\beval\(", text)
    assert re.findall(r"https?://\S+", text) == ['http://www.w3.org/2000/svg",'] * 2  # a name


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    with client_of(tmp_path_factory.mktemp("embedding"), "embedding", slo_ms=60_000) as client:
        yield client


def numbers(page: str) -> dict[str, tuple[str, str]]:
    """Of each tile its number and the note beside it."""
    found = re.findall(r'id="(\w+)">([^<]*)</div><div class="note">([^<]*)</div>', page)
    return {name: (number, unescape(note)) for name, number, note in found}


def test_a_browser_shows_the_load_and_answers_a_text(embedder):
    """Asks through the page's own box; the request then is the load that it shows."""
    asked = urlencode({"text": f"{EVIL} word1", "second": "bad word2", "speed": "0.9"})
    page = dom(f"{embedder.base_url}/#{asked}", 6000)
    assert "<title>tiny: latadj</title>" in page  # not "caught"
    assert ">serving</span>" in page
    first_D, second_D = embedder.service.engine([f"{EVIL} word1", "bad word2"], alpha=0.9)
    result = page[page.index('class="result"') :]
    assert re.search(r"alpha 0\.9, expected \d\.\d\dx: [\d.]+ ms in all, [\d.]+ ms of wait", result)
    assert f"<span>{np.dot(first_D, second_D):.3f}</span>" in result
    assert "32 numbers" in result
    shown = numbers(page)
    assert float(shown["load"][0].removesuffix(" / s")) > 0
    assert re.fullmatch(r"\d+, \d+ ms", shown["latency"][0])
    assert shown["latency"][1] == "deadline 60000 ms"
    assert shown["intime"] == ("100.0 %", "of 1 that could be")
    assert re.fullmatch(r"\d\.\d\dx 100 %", shown["served"][1])
    assert '<option value="0.9">' in page
    assert shown["queue"] == ("0", "0 tokens")
    assert shown["refused"][0] == "0.0 / s"


def test_text_of_a_user_s_is_never_markup(tmp_path):
    with client_of(tmp_path, "token-classification") as client:
        page = dom(f"{client.base_url}/#{urlencode({'text': EVIL})}", 3000)
        assert "<title>tiny: latadj</title>" in page
        assert "<img" not in re.sub("<script>.*?</script>", "", page, flags=re.DOTALL)
        result = page[page.index('class="result"') :]
        text = re.sub("<sub>.*?</sub>|<[^>]*>", "", result[: result.index("</section>")])
        assert EVIL in unescape(text)


@pytest.mark.parametrize(
    ("task", "given", "shown"),
    [
        ("classification", {"text": "good", "second": "bad"}, r"<span>name-\d</span>"),
        ("ranking", {"text": "good", "second": "word1\n\nword2 bad"}, "<span>word2 bad</span>"),
        ("question-answering", {"text": "good", "second": "word1 <b> word2"}, "<mark>"),
        ("classification", {"text": "word1 " * 40}, "text 0 has 42 tokens, the largest bucket"),
    ],
)
def test_every_task_has_its_box(tmp_path, task, given, shown):
    with client_of(tmp_path, task) as client:
        page = dom(f"{client.base_url}/#{urlencode(given)}", 1500)
    assert re.search(shown, page[page.index('class="result"') :])


def test_the_page_needs_no_key_but_its_numbers_do(tmp_path):
    with client_of(tmp_path, "embedding", api_key=KEY) as client:
        policy = client.get("/").headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert client.post("/", json={"inputs": "good"}).status_code == 401
        assert client.get("/stats").status_code == 401
        page = dom(f"{client.base_url}/", 1500)
        assert "a key is asked for</span>" in page
        assert '<form id="key">' in page
        headers = {"Authorization": f"Bearer {KEY}"}
        assert client.get("/stats", headers=headers).json()["model"] == "tiny"


def test_stats_count_what_the_model_is_asked_alone(embedder):
    """Fails where the page's own requests are load, or a refusal's time an answer's."""

    def stats():
        found = embedder.get("/stats").json()
        return found, sum(found["requests"].values()), sum(found["seconds"]["counts"])

    before, requests, answered = stats()
    assert embedder.post("/embed", json={"inputs": ["good", "bad"]}).status_code == 200
    assert embedder.post("/", json={"inputs": "good"}).status_code == 200
    assert embedder.post("/embed", json={"inputs": 3}).status_code == 422
    for path in ("/", "/info", "/stats", "/none"):
        embedder.get(path)
    after, requests_now, answered_now = stats()
    assert (requests_now - requests, answered_now - answered) == (3, 2)
    assert after["requests"]["422"] - before["requests"].get("422", 0) == 1
    assert sum(after["texts"].values()) - sum(before["texts"].values()) == 3
    assert after["time_s"] > before["time_s"]
    assert after["speeds"].keys() == {"dense", "0.9"}
    assert len(after["seconds"]["counts"]) == len(after["seconds"]["edges"]) + 1
