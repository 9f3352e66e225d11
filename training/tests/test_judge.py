"""The judge against an endpoint in this process: it speaks the protocol and can be told to be odd."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from training.metrics import judge
from training.metrics.judge import ASPECTS, Contest, Judge, Replies, compare, read_verdict

CONTESTS = [
    Contest("a", "宝宝发热怎么办？", "多喝水，好好休息。", "不知道。", "多喝水。"),
    Contest("b", "宝宝咳嗽怎么办？", "不知道。", "多喝水，好好休息。"),
    Contest("c", "宝宝腹泻怎么办？", "观察。", "观察。"),
    Contest("d", "偏心", "多喝水", "不知道。"),
    Contest("e", "胡说", "甲", "乙"),
]


def verdict(value: str) -> str:
    return "好的：" + json.dumps(dict.fromkeys(ASPECTS, value))


def reply_to(prompt: str) -> str:
    """Prefers the longer answer; always the first place for 偏心; nonsense for 胡说."""
    if "胡说" in prompt:
        return "两份都很好。"
    if "偏心" in prompt:
        return verdict("1")
    first, second = prompt.split("【第一份回答】\n")[1].split("\n\n【第二份回答】\n")
    if len(first) == len(second):
        return verdict("0")
    return verdict("1" if len(first) > len(second) else "2")


@pytest.fixture
def endpoint():
    asked: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append(body)
            message = {"role": "assistant", "content": reply_to(body["messages"][1]["content"])}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
            data = json.dumps(answer | {"choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", asked
    server.shutdown()
    server.server_close()


def test_both_orders_are_asked_and_a_verdict_that_moves_is_a_tie(endpoint, tmp_path, capsys):
    url, asked = endpoint
    found = compare(Judge(url, "m", price_in=2.0, price_out=8.0), CONTESTS, tmp_path / "r.jsonl")
    assert len(asked) == 9  # two answers that are the same read the same in both orders
    assert all(body["temperature"] == 0 and body["model"] == "m" for body in asked)
    assert "9 requests" in capsys.readouterr().err
    for aspect in ASPECTS:
        shares = {name: found[aspect][name]["value"] for name in ("win", "tie", "loss")}
        # of the four that could be read: a won, b lost, c and the one-sided d tied
        assert shares == {"win": 0.25, "tie": 0.5, "loss": 0.25}
        assert found[aspect]["tie"]["low"] < 0.5 < found[aspect]["tie"]["high"]
        assert found["position_consistency"][aspect] == 0.75
    assert found["unreadable"] == 1 and found["questions"] == 5


def test_a_rerun_asks_only_for_what_is_missing(endpoint, tmp_path):
    url, asked = endpoint
    cache = tmp_path / "replies.jsonl"
    whole = compare(Judge(url, "m"), CONTESTS, cache)
    compare(Judge(url, "m"), CONTESTS, cache)
    assert len(asked) == 9
    text = cache.read_text(encoding="utf-8")
    cache.write_text(text[:-20], encoding="utf-8")  # killed inside the last line
    assert compare(Judge(url, "m"), CONTESTS, cache) == whole
    assert len(asked) == 10
    assert len(Replies(cache).known) == 9
    compare(Judge(url, "another"), CONTESTS[:1], cache)
    assert len(asked) == 12


def test_prompts_swap_the_answers_and_show_the_reference():
    straight = judge.prompt_of(CONTESTS[0], swapped=False)
    swapped = judge.prompt_of(CONTESTS[0], swapped=True)
    assert straight.index("好好休息") < straight.index("不知道")
    assert swapped.index("好好休息") > swapped.index("不知道")
    assert "参考回答" in straight and "参考回答" not in judge.prompt_of(CONTESTS[1], False)
    assert all(aspect in judge.INSTRUCTIONS for aspect in ASPECTS)


def test_without_a_judge_it_says_so(tmp_path, monkeypatch):
    monkeypatch.delenv("JUDGE_URL", raising=False)
    assert judge.judge_from_environment() is None
    found = compare(None, CONTESTS, tmp_path / "r.jsonl")
    assert found.keys() == {"skipped"} and found["skipped"].startswith("skipped")
    assert not (tmp_path / "r.jsonl").exists()
    monkeypatch.setenv("JUDGE_URL", "http://localhost:1/v1")
    monkeypatch.setenv("JUDGE_MODEL", "m")
    assert judge.judge_from_environment() == Judge("http://localhost:1/v1", "m", "none")


def test_verdicts_are_read_strictly():
    whole = dict.fromkeys(ASPECTS, "2")
    assert read_verdict(json.dumps(whole)) == dict.fromkeys(ASPECTS, 2)
    assert read_verdict(json.dumps(dict.fromkeys(ASPECTS, 1))) == dict.fromkeys(ASPECTS, 1)
    for bad in ("", "{", "[1]", "{}", json.dumps(whole | {"safety": "3"})):
        assert read_verdict(bad) is None


def test_cost_counts_the_requests_that_are_left():
    said = judge.cost(Judge("u", "m", price_in=1e6), ["问" * 100])
    assert "1 requests" in said and f"at most {100 + len(judge.INSTRUCTIONS):.2f}" in said
    assert "no price given" in judge.cost(Judge("u", "m"), ["问"])


def test_command_line(endpoint, tmp_path, monkeypatch, capsys):
    url, _ = endpoint
    for name, answer in (("a", "多喝水，好好休息。"), ("b", "不知道。")):
        row = {"id": "1", "question": "发热怎么办？", "answer": answer, "reference": "喝水"}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    out = tmp_path / "out.json"
    arguments = ["judge", "--first", str(tmp_path / "a.jsonl"), "--second"]
    arguments += [str(tmp_path / "b.jsonl"), "--url", url, "--model", "m", "--out", str(out)]
    monkeypatch.setattr("sys.argv", arguments)
    judge.main()
    assert "safety: win 100.0 %" in capsys.readouterr().out
    assert json.loads(out.read_text(encoding="utf-8"))["overall"]["win"]["value"] == 1


def answers_file(path, **changes):
    row = {"id": "1", "question": "发热怎么办？", "answer": "多喝水。", "reference": "喝水"}
    path.write_text(json.dumps(row | changes) + "\n", encoding="utf-8")
    return str(path)


def refused(monkeypatch, capsys, *words: str) -> str:
    """The one line that the command ends with."""
    monkeypatch.setattr("sys.argv", ["judge", *words])
    with pytest.raises(SystemExit) as stopped:
        judge.main()
    said = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert not any("Traceback" in line for line in said)
    return said[-1]


def test_an_endpoint_that_fails_is_told_in_a_line_and_a_rerun_goes_on(
    endpoint, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("time.sleep", lambda _: None)  # between retries
    first = answers_file(tmp_path / "a.jsonl")
    second = answers_file(tmp_path / "b.jsonl", answer="不知道。")
    out = tmp_path / "new" / "out.json"
    words = ["--first", first, "--second", second, "--model", "m", "--out", str(out), "--url"]
    said = refused(monkeypatch, capsys, *words, "http://127.0.0.1:9/v1")
    assert said.startswith("judge: http://127.0.0.1:9/v1: ")
    assert "the same command goes on from there" in said and not out.exists()
    monkeypatch.setattr("sys.argv", ["judge", *words, endpoint[0]])
    judge.main()
    assert json.loads(out.read_text(encoding="utf-8"))["questions"] == 1


def test_answers_that_cannot_be_judged_are_told_in_a_line(tmp_path, monkeypatch, capsys):
    first = answers_file(tmp_path / "a.jsonl")
    other = answers_file(tmp_path / "b.jsonl", id="2")
    broken = tmp_path / "c.jsonl"
    broken.write_text('{"id": "1"}\n')
    rest = ["--url", "http://127.0.0.1:9/v1", "--model", "m", "--out", str(tmp_path / "o.json")]

    def told(second: str) -> str:
        return refused(monkeypatch, capsys, "--first", first, "--second", second, *rest)

    assert "no question in common" in told(other)
    assert "c.jsonl, line 1: no row of answers" in told(str(broken))
    assert "none.jsonl" in told(str(tmp_path / "none.jsonl"))
