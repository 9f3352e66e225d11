"""The construction rules: offline it only rearranges; the endpoint engine against a local server."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from training.pedcorpus.construct import Options, apply, engine_from, jobs
from training.pedcorpus.construct.cache import Cache, Reply, key_of_request
from training.pedcorpus.construct.check import Checks, Rejected, grounded, json_of
from training.pedcorpus.construct.endpoint import Endpoint, EndpointError
from training.pedcorpus.construct.limits import Pace, tokens_of
from training.pedcorpus.construct.reconstruct import CONNECT
from training.pedcorpus.construct.requests import request_of
from training.pedcorpus.doses import NOTICE, count_doses
from training.pedcorpus.ledger import Ledger
from training.pedcorpus.readers.lexicons import Lexicon
from training.pedcorpus.record import Chat, Exam, Text, Triple, dialogue

ROOT = Path(__file__).parents[2]
PASSAGE = (
    "小儿肺炎是一种由细菌或病毒引起的肺部感染性疾病。发热、咳嗽、气促是常见的表现，重症患儿可有三凹征。"
    "治疗上保持呼吸道通畅，必要时吸氧，细菌感染时使用抗菌药物。阿莫西林每次50毫克，每日3次。"
    "出现呼吸困难、口唇发紫或精神萎靡时应立即到医院就诊。"
)
ANSWER = (
    "小儿肺炎是由细菌或病毒引起的肺部感染性疾病，常见的表现有发热、咳嗽和气促，重症患儿可有三凹征。"
)


def text(at: int = 0, body: str = PASSAGE) -> Text:
    return Text(
        f"t{at}", "user__x", True, f"# 小儿肺炎\n## 概述\n{body}", provenance=f"guide.pdf#p{at}"
    )


def made(records: list, **choices: Any) -> tuple[list[Chat], Ledger]:
    ledger = Ledger()
    return list(apply(records, engine_from(Options(**choices)), ledger)), ledger


def pieces(said: str) -> list[str]:
    """Sentences, bare of punctuation and of the connecting words that may be added."""
    words = "|".join({word for row in CONNECT for word in row})
    bare = re.sub(words, "", said.replace(NOTICE, ""))
    return [p for p in (re.sub(r"[^\w]", "", s) for s in re.split("[。！？；]", bare)) if p]


# --- offline ---------------------------------------------------------------------------------


def test_role_play_says_only_what_the_passage_says() -> None:
    chats, _ = made([text()])
    assert chats
    source = re.sub(r"[^\w]", "", PASSAGE)
    for chat in chats:
        assert all(piece in source for piece in pieces(chat.answer))
        assert count_doses(chat.answer) == 0 and chat.templated
        assert "小儿肺炎" in chat.question
        assert chat.provenance == "guide.pdf#p0 role-play/offline"
        assert chat.group == "text/t0"  # the text that holds the fact


TRIPLES = [
    Triple("user__kg", "川崎病", relation, tail)
    for relation, tail in (
        ("临床表现", "持续发热"),
        ("临床表现", "草莓舌"),
        ("临床表现", "草莓舌"),
        ("科室", "儿科"),
        ("治疗", "静脉注射免疫球蛋白"),
        ("随访项目", "超声心动图"),
    )
]


def test_triples_become_one_question_for_each_fact() -> None:
    chats, _ = made(TRIPLES)
    assert {c.group for c in chats} == {
        f"kg/川崎病/{k}" for k in ("症状", "科室", "治疗", "随访项目")
    }
    symptoms = next(c for c in chats if c.group.endswith("症状"))
    assert symptoms.answer.count("草莓舌") == 1 and "持续发热" in symptoms.answer
    assert {c.task for c in chats} == {"medkqa", "trerecom"} and all(c.templated for c in chats)
    assert len({c.id for c in chats}) == len(chats)


def test_offline_is_deterministic_and_varies_its_questions() -> None:
    many = [Triple("user__kg", f"小儿{name}病", "症状", "发热") for name in "甲乙丙丁戊己庚辛"]
    first, again = made(many)[0], made(many)[0]
    assert first == again
    assert len({c.question.replace(c.group.split("/")[1], "X") for c in first}) >= 3


PERSON = Chat(
    "p",
    "user__talk",
    "trerecom",
    False,
    dialogue("宝宝咳漱三天了怎么办", "嗯嗯，因该多喝水\n注意休息\n吃5毫升氨溴索，一天两次。观察哈"),
    department="儿科",
    age_group="幼儿",
)


def test_a_persons_wording_stays_theirs_unless_advice_is_added() -> None:
    (chat,), _ = made([PERSON])
    assert chat.turns[0].text == "宝宝咳嗽三天了怎么办？"
    assert "嗯" not in chat.answer and chat.answer.startswith("应该多喝水，注意休息。")
    assert count_doses(chat.answer) == 0 and NOTICE in chat.answer
    assert not chat.templated and (chat.department, chat.age_group) == ("儿科", "幼儿")
    (advised,), _ = made([PERSON], return_advice=True)
    assert advised.answer.startswith(chat.answer) and re.search("医院|就医|门诊", advised.answer)
    assert advised.templated
    knows = Chat(
        "k", "user__talk", "trerecom", False, dialogue("咳嗽怎么办", "多喝水，加重就去医院。")
    )
    (kept,), _ = made([knows], return_advice=True)
    assert kept.answer == "多喝水，加重就去医院。" and not kept.templated
    same = Chat("s", "user__talk", "trerecom", False, kept.turns)
    assert made([same])[1].removed["user__talk"] == {"construct: unchanged": 1}
    assert len(made([same], rule="regularise")[0]) == 1


def test_reconstruction_orders_sentences_and_adds_none() -> None:
    said = (
        "小儿肺炎要注意休息。如果出现呼吸困难要及时就医。小儿肺炎由细菌或病毒引起。"
        "常见的症状有发热和咳嗽。这些症状会持续数天。可以查血常规。"
    )
    chat = Chat("d", "user__x", "medkqa", True, dialogue("小儿肺炎怎么办？", said), "g")
    (new,), _ = made([chat])
    assert sorted(pieces(new.answer)) == sorted(pieces(said)) and new.answer != said
    assert new.answer.endswith("如果出现呼吸困难要及时就医。")
    assert (
        "常见的症状有发热和咳嗽。这些症状会持续数天。" in new.answer
    )  # what leans on another stays
    assert new.templated and new.group == "g"


def test_nothing_is_made_of_what_is_held_out() -> None:
    held = Chat("h", "user__x", "medkqa", True, dialogue("什么是肺炎？", ANSWER), split="test")
    exam = Exam("e", "user__x", "题目", ("甲", "乙"), 0)
    chats, ledger = made([held, exam, PERSON], rule="reconstruct")
    assert [c.id for c in chats] == ["p-reconstruct"]
    assert dict(ledger.removed["user__x"]) == {
        "construct: held out": 1,
        "construct: exams never train": 1,
    }
    # The group decides the split: without one of its own, it is the question of the source.
    assert chats[0].group == "宝宝咳漱三天了怎么办"


def test_long_texts_are_cut_between_sentences() -> None:
    body = "".join(f"小儿肺炎的第{i}个要点是保持呼吸道通畅。" for i in range(200))
    found = list(jobs([text(0, body)], "auto", Ledger()))
    assert len(found) > 1 and all(len(j.passage) <= 1600 for j in found)
    assert "".join(j.passage for j in found) == body and len({j.id for j in found}) == len(found)


# --- the checks ------------------------------------------------------------------------------

JOB = next(jobs([text()], "auto", Ledger()))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("好的。", "answer too short"),
        (ANSWER * 9, "answer too long"),
        (
            "Pneumonia is an infection of the lungs caused by bacteria or viruses in kids.",
            "Chinese",
        ),
        (ANSWER + "一般5天内痊愈。", "a number"),
        (
            "骨折后需要石膏固定四周，定期复查拍片，康复训练逐渐负重行走，避免剧烈运动。",
            "source does not",
        ),
        (ANSWER + "请拨打13912345678咨询。", "personal data"),
        (ANSWER + "作为AI，我不能诊断。", "machine"),
        (ANSWER + "材料中没有提到治疗。", "points to its source"),
        (ANSWER + "可以喝符水治疗。", "unsafe"),
        (ANSWER + "细菌感染时可用头孢克肟。", "names a medicine"),
        (None, "a field is missing"),
    ],
)
def test_answers_that_cannot_be_used_are_rejected(answer: object, why: str) -> None:
    lexicon = Lexicon()
    lexicon.add(["头孢克肟", "阿莫西林"], "drug")
    with pytest.raises(Rejected, match=why):
        Checks(lexicon).answer(answer, JOB)


def test_a_good_answer_passes_and_loses_its_dose() -> None:
    passed = Checks().answer(ANSWER + "阿莫西林每次50毫克，每日3次。", JOB)
    assert passed == ANSWER + NOTICE
    assert (
        grounded(ANSWER, PASSAGE) > 0.8 > 0.3 > grounded("骨折需要石膏固定并定期拍片复查", PASSAGE)
    )
    with pytest.raises(Rejected, match="points to its source"):
        Checks().question("上文提到的病怎么治？")
    assert json_of('<think>嗯{}</think>```json\n{"a": 1}\n```') == {"a": 1}
    for garbage in ("", "没有", "[1]", '{"a": '):
        with pytest.raises(Rejected, match="not JSON"):
            json_of(garbage)


# --- the endpoint engine ---------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Speaks the chat protocol; `reply` makes the content of an answer from the request, or a
    status with headers."""

    daemon_threads = True

    def __init__(self, reply: Callable[[dict, int], str | tuple[int, dict]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply, self.lock = reply, threading.Lock()
        self.requests: list[dict] = []
        self.keys: list[str] = []
        self.running = self.most = 0
        self.delay = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(request)
            self.server.keys.append(self.headers.get("Authorization", ""))
            place = len(self.server.requests)
            self.server.running += 1
            self.server.most = max(self.server.most, self.server.running)
        time.sleep(self.server.delay)
        found = self.server.reply(request, place)
        with self.server.lock:
            self.server.running -= 1
        status, headers = found if isinstance(found, tuple) else (200, {})
        content = "" if isinstance(found, tuple) else found
        body = {"error": {"message": "no", "code": "x"}}
        if status == 200:
            choice = {"index": 0, "message": {"role": "assistant", "content": content}}
            usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
            body = {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}
        raw = json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(raw), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        pass


def good(request: dict, place: int) -> str:
    asked = request["messages"][1]["content"]
    if asked.startswith("对话"):
        turns = asked.count("医生[")
        return json.dumps(
            {"answers": ["宝宝咳嗽，应该多喝水，注意休息，继续观察。"] * turns}, ensure_ascii=False
        )
    if asked.startswith("问题"):
        return json.dumps(
            {"question": "小儿肺炎有什么表现？", "answer": ANSWER}, ensure_ascii=False
        )
    items = [{"question": "什么是小儿肺炎？", "answer": ANSWER}]
    return json.dumps({"items": items}, ensure_ascii=False)


FAST = {"retry-after-ms": 5}


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(reply: Callable[[dict, int], str | tuple[int, dict]] = good) -> Server:
        server = Server(reply)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def run(server: Server, folder: Path, records: list, **choices: Any) -> tuple[list[Chat], Ledger]:
    named: dict[str, Any] = {
        "engine": "endpoint",
        "endpoint": server.url,
        "model": "m",
        "yes": True,
    }
    options = Options(**{**named, "cache": str(folder / "c.sqlite"), **choices})
    ledger = Ledger()
    return list(apply(records, engine_from(options), ledger)), ledger


def test_each_rule_sends_its_prompt_and_gives_its_records(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve()
    distilled = Chat("d", "user__x", "medkqa", True, dialogue("什么是肺炎？", ANSWER), "fact")
    chats, ledger = run(server, tmp_path, [text(), PERSON, distilled])
    assert [c.id for c in chats] == ["t0-role-play-0", "p-regularise", "d-reconstruct"]
    assert [c.templated for c in chats] == [True, False, True]  # polished from people stays human
    assert chats[0].provenance == "guide.pdf#p0 role-play/endpoint:m"
    assert chats[2].group == "fact" and not ledger.removed
    systems = {
        r["messages"][1]["content"][:2]: r["messages"][0]["content"] for r in server.requests
    }
    asked = [r["messages"][1]["content"] for r in server.requests]
    assert "儿科医生" in systems["主题"] and any(PASSAGE in content for content in asked)
    assert "医患对话" in systems["对话"] and "一步一步" in systems["问题"]
    for system in systems.values():
        assert "剂量" in system and "医院" in system and "JSON" in system
        assert "{{" not in system and "{items}" not in system


def test_order_is_kept_and_concurrency_bounded(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve()
    server.delay = 0.03
    chats, _ = run(
        server, tmp_path, [text(i, PASSAGE + f"{i}" * 3) for i in range(16)], concurrency=3
    )
    assert [c.id for c in chats] == [f"t{i}-role-play-0" for i in range(16)]
    assert server.most == 3 and len(server.requests) == 16


def test_a_second_run_sends_nothing(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve()
    records = [text(i, PASSAGE + f"{i}") for i in range(5)]
    first, _ = run(server, tmp_path, records)
    again, _ = run(server, tmp_path, records)
    assert again == first and len(server.requests) == 5
    run(server, tmp_path, records, temperature=0.1)  # another request is another key
    assert len(server.requests) == 10


def test_it_goes_on_after_an_abort(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(lambda request, place: good(request, place) if place <= 4 else (503, FAST))
    records = [text(i, PASSAGE + f"{i}") for i in range(8)]
    with pytest.raises(
        EndpointError, match=r"does not answer after 1 retries.*4 answers are kept.*again"
    ):
        run(server, tmp_path, records, concurrency=1, retries=1)
    server.reply = good
    before = len(server.requests)
    chats, _ = run(server, tmp_path, records, concurrency=1)
    assert len(chats) == 8 and len(server.requests) - before == 4


@pytest.mark.parametrize("status", [429, 500])
def test_busy_and_failing_servers_are_asked_again(
    serve: Callable[..., Server], tmp_path: Path, status: int
) -> None:
    server = serve(lambda request, place: (status, FAST) if place < 3 else good(request, place))
    chats, ledger = run(server, tmp_path, [text()], concurrency=1)
    assert len(chats) == 1 and len(server.requests) == 3 and not ledger.removed


def test_garbage_is_asked_for_once_more_then_counted(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    empty = json.dumps({"items": []})
    half = json.dumps(
        {"items": [{"question": "什么是小儿肺炎？", "answer": ANSWER}, {"question": "什么病？"}]},
        ensure_ascii=False,
    )
    answers = {"甲": ["抱歉，我不能回答。", "抱歉"], "乙": ["{", half], "丙": [empty]}
    seen: dict[str, int] = {}

    def reply(request: dict, place: int) -> str:
        name = request["messages"][1]["content"][-1]
        seen[name] = seen.get(name, 0) + 1
        return answers[name][seen[name] - 1]

    server = serve(reply)
    records = [text(i, PASSAGE + name) for i, name in enumerate(answers)]
    chats, ledger = run(server, tmp_path, records, concurrency=1)
    assert [c.id for c in chats] == ["t1-role-play-0"]
    assert seen == {"甲": 2, "乙": 2, "丙": 1}  # a passage that gives nothing is no fault
    assert dict(ledger.removed["user__x"]) == {
        "construct: not JSON": 3,
        "construct: a field is missing": 1,
    }


def test_the_cost_comes_before_the_first_request(
    serve: Callable[..., Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    options = Options(
        "endpoint",
        endpoint=server.url,
        model="m",
        cache=str(tmp_path / "c"),
        price_in=2.0,
        price_out=8.0,
    )
    seen: list[tuple[int, str]] = []

    def refuse(_: str) -> bool:
        seen.append((len(server.requests), capsys.readouterr().err))
        return False

    with pytest.raises(EndpointError, match="nothing was sent"):
        list(apply([text()], Endpoint(options, None, refuse), Ledger()))
    ((sent, said),) = seen
    assert sent == 0 and not server.requests
    request = request_of(JOB, options)
    tokens = sum(tokens_of(m["content"]) + 4 for m in request["messages"])
    assert re.search(rf"requests +1 .*tokens in +{tokens:,d} .*tokens out +780 ", said, re.S)
    assert f"{(tokens * 2 + 780 * 8) / 1e6:.2f}" in said
    list(apply([text()], Endpoint(options, None, lambda _: True), Ledger()))
    assert len(server.requests) == 1
    with pytest.raises(EndpointError, match="give --yes"):  # nobody at the terminal
        list(apply([text(1, PASSAGE + "新")], Endpoint(options), Ledger()))


def test_errors_of_the_endpoint_say_what_to_do(
    serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-1")
    server = serve(lambda request, place: (401, {}))
    with pytest.raises(EndpointError, match=r"does not accept the key in \$MY_KEY") as caught:
        run(server, tmp_path, [text()], key_env="MY_KEY")
    assert server.keys == ["Bearer secret-1"] and "secret-1" not in str(caught.value)
    assert b"secret-1" not in b"".join(p.read_bytes() for p in tmp_path.iterdir())
    server.reply = lambda request, place: (404, {})
    with pytest.raises(EndpointError, match="knows no model 'm'"):
        run(server, tmp_path, [text()])
    (tmp_path / "no.sqlite").write_text("this is no database, only a text of some length" * 9)
    with pytest.raises(ValueError, match="not a cache file"):
        run(server, tmp_path, [text()], cache=str(tmp_path / "no.sqlite"))


def test_the_pace_keeps_to_the_limit_without_waiting_for_real() -> None:
    now, slept = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(120, lambda: now[0], sleep)
    for _ in range(5):
        pace.wait()
    assert slept == [0.5] * 4 and now[0] == 2.0
    tokens = Pace(6000, lambda: now[0], sleep)
    tokens.wait(3000)
    tokens.wait(1)
    assert slept[-1] == 30.0
    Pace(0, lambda: now[0], sleep).wait()
    assert len(slept) == 5


def test_the_cache_survives_and_tells_attempts_apart(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "c.sqlite"
    request = {"model": "m", "messages": [{"role": "user", "content": "甲"}]}
    keys = {
        key_of_request(request, 0),
        key_of_request(request, 1),
        key_of_request({**request, "model": "n"}, 0),
    }
    assert len(keys) == 3
    cache = Cache(path)
    cache.put("k", Reply("答", 1, 2))
    cache.close()
    assert Cache(path).get("k") == Reply("答", 1, 2) and Cache(path).get("x") is None


def test_options_that_do_not_go_together_are_refused() -> None:
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"engine": "endpoint"}, "--endpoint URL and --model"),
        ({"engine": "magic"}, "none of offline"),
        ({"rule": "x"}, "none of auto"),
        ({"concurrency": 0}, "at least 1"),
        ({"rpm": -1}, "not be negative"),
    )
    for choices, why in wrong:
        with pytest.raises(ValueError, match=why):
            Options(**choices)


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training.pedcorpus.construct", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def test_the_command_writes_lines_and_names_what_it_could_not_use(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    rows = [{"head": t.head, "relation": t.relation, "tail": t.tail} for t in TRIPLES]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (tmp_path / "kg.jsonl").write_text("\n".join([*lines, "{bad"]), "utf-8")
    out = tmp_path / "out.jsonl"
    done = command(
        "--rule", "role_play", "--in", tmp_path / "kg.jsonl", "--out", out, "--engine", "offline"
    )
    assert done.returncode == 0, done.stderr
    written = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert len(written) == 4 and all(
        r["templated"] and r["group"] and r["provenance"] for r in written
    )
    assert f"kg.jsonl:{len(rows) + 1}: not JSON" in done.stderr and "1 bad line" in done.stdout
    server = serve()
    more = (
        "--engine",
        "endpoint",
        "--endpoint",
        server.url,
        "--model",
        "m",
        "--cache",
        tmp_path / "c",
    )
    refused = command("--in", tmp_path / "kg.jsonl", "--out", tmp_path / "no.jsonl", *more)
    assert (
        refused.returncode == 1 and "give --yes" in refused.stderr and "requests" in refused.stderr
    )
    assert "Traceback" not in refused.stderr and not (tmp_path / "no.jsonl").exists()
    assert not server.requests
    absent = command("--in", tmp_path / "absent", "--out", out)
    assert absent.returncode == 2 and "no such file or folder" in absent.stderr
