"""``dreamserve generate`` against a server: what is shown, what is saved, how it ends."""

import base64
import io
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from server.cli import app
from server.client.answer import Answer, Picture
from server.client.connection import RefusedError, is_loopback, stream_document
from server.client.generate import Exit, generate
from server.client.inline_images import show_image
from server.client.terminal import TerminalView
from server.llm.engine import EngineError
from server.pool.base import RenderError
from server.schema.events import (
    DocumentStartedEvent,
    ImageCompletedEvent,
    ImageProgressEvent,
    ImageQueuedEvent,
    StreamEvent,
    TextDeltaEvent,
)
from server.schema.interleaved import ImageContent
from tests.api.serving import scripted_engine
from tests.cli.conftest import StartServer
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import DREAM, EOS

STORY = (["Here is <a> circle.", DREAM], [" And & a star.", DREAM], ["The end.", EOS])


class Parts(HTMLParser):
    """Paragraphs and pictures of a page, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._in_paragraph = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_paragraph = tag == "p"
        if tag == "img":
            self.parts.append((dict(attrs)["src"] or "").partition(",")[0])

    def handle_endtag(self, tag: str) -> None:
        self._in_paragraph = False

    def handle_data(self, data: str) -> None:
        if self._in_paragraph:
            self.parts.append(data)


def parts_of(page: Path) -> list[str]:
    parser = Parts()
    parser.feed(page.read_text())
    return parser.parts


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["generate", *arguments])


def test_the_answer_is_shown_and_saved_in_order(start_server: StartServer, tmp_path: Path) -> None:
    url = start_server(scripted_engine(*STORY), ScriptedPool())

    result = run("Draw.", "--url", url, "--out", str(tmp_path / "answer"))

    assert result.exit_code == 0, result.output
    shown = [result.output.index(text) for text in ("Here is <a> circle.", "picture 1", "And & a star.", "The end.")]
    assert shown == sorted(shown)
    assert sorted(path.name for path in (tmp_path / "answer").iterdir()) == [
        "answer.html",
        "picture-1.png",
        "picture-2.png",
    ]
    assert Image.open(tmp_path / "answer" / "picture-2.png").size == (64, 64)
    picture = "data:image/png;base64"
    assert parts_of(tmp_path / "answer" / "answer.html") == [
        "Here is <a> circle.",
        picture,
        "And & a star.",
        picture,
        "The end.",
    ]


def test_options_and_pictures_reach_the_server(start_server: StartServer, tmp_path: Path) -> None:
    engine, pool = scripted_engine(["", DREAM], [EOS]), ScriptedPool()
    Image.new("RGB", (20, 10), "green").save(tmp_path / "leaf.jpg")
    options = ["--size", "32x32", "--steps", "3", "--format", "webp", "--images", "1", "--seed", "5"]

    result = run(
        "What?",
        "--image",
        str(tmp_path / "leaf.jpg"),
        "--url",
        start_server(engine, pool),
        "--out",
        str(tmp_path),
        *options,
    )

    assert result.exit_code == 0, result.output
    assert engine.calls[-1].prompt.images[0].pixels.size == (20, 10)
    assert (pool.jobs[-1].width, pool.jobs[-1].steps, pool.jobs[-1].format) == (32, 3, "webp")
    assert Image.open(tmp_path / "picture-1.webp").size == (32, 32)


def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    result = run("a", "--url", "http://127.0.0.1:9", "--out", str(tmp_path))

    assert result.exit_code == Exit.UNREACHABLE
    assert "no server answers at http://127.0.0.1:9" in result.output


def test_a_request_that_is_refused_is_explained(start_server: StartServer, tmp_path: Path) -> None:
    url = start_server(scripted_engine(), ScriptedPool())

    result = run("a", "--url", url, "--size", "63x64", "--out", str(tmp_path / "none"))

    assert result.exit_code == Exit.REFUSED
    assert "images.size: both sides must be multiples of 16" in result.output
    assert not (tmp_path / "none").exists()


def test_a_document_that_fails_is_kept_as_far_as_it_came(start_server: StartServer, tmp_path: Path) -> None:
    url = start_server(scripted_engine(["Once upon", EngineError("broken")]), ScriptedPool())

    result = run("a", "--url", url, "--out", str(tmp_path))

    assert result.exit_code == Exit.FAILED
    assert "the document failed" in result.output
    assert parts_of(tmp_path / "answer.html") == ["Once upon"]


def test_a_picture_that_fails_is_named_in_its_place(start_server: StartServer, tmp_path: Path) -> None:
    pool = ScriptedPool([lambda job: [], [RenderError("render_failed", "no paint")]])
    url = start_server(scripted_engine(["Look: ", DREAM], ["Sorry.", EOS]), pool)

    result = run("a", "--url", url, "--out", str(tmp_path))

    assert result.exit_code == 0, result.output
    assert "[picture 1 failed: no paint]" in result.output
    assert parts_of(tmp_path / "answer.html") == ["Look:", "[no picture: no paint]", "Sorry."]


def test_what_answers_but_is_no_dreamserve_is_told_from_one(start_server: StartServer, tmp_path: Path) -> None:
    url = start_server(scripted_engine(), ScriptedPool())
    lines = io.StringIO()

    outcome = generate(f"{url}/elsewhere", Answer("a"), {"input": "a"}, tmp_path, Console(), Console(file=lines))

    assert outcome == Exit.REFUSED
    assert "there is nothing at POST /elsewhere/v1/interleaved" in lines.getvalue()


def picture() -> ImageContent:
    encoded = io.BytesIO()
    Image.new("RGB", (4, 4), (255, 0, 0)).save(encoded, format="webp", lossless=True)
    return ImageContent(
        b64_json=base64.b64encode(encoded.getvalue()).decode(), format="webp", width=4, height=4, seed=1
    )


def test_text_after_a_picture_that_is_still_drawn_waits_for_it() -> None:
    lines = io.StringIO()
    view = TerminalView(Console(file=lines, width=80), {})

    view.show(DocumentStartedEvent(sequence=0, id="doc", model="m", created=1))
    view.show(TextDeltaEvent(sequence=1, part=0, text="before "))
    view.show(ImageQueuedEvent(sequence=2, part=1, position=0, eta_s=None))
    view.show(TextDeltaEvent(sequence=3, part=2, text="between "))
    view.show(ImageQueuedEvent(sequence=4, part=3, position=1, eta_s=None))
    view.show(ImageProgressEvent(sequence=5, part=3, step=1, steps=2))
    view.show(TextDeltaEvent(sequence=6, part=4, text="after"))
    assert "between" not in lines.getvalue()
    view.show(ImageCompletedEvent(sequence=7, part=3, image=picture()))
    assert "between" not in lines.getvalue()
    view.show(ImageCompletedEvent(sequence=8, part=1, image=picture()))
    view.close()

    words = [word for word in lines.getvalue().split() if word.isalpha()]
    assert [word for word in words if word in ("before", "between", "after")] == ["before", "between", "after"]
    assert lines.getvalue().index("picture 2") < lines.getvalue().index("after")


@pytest.mark.parametrize(
    ("environment", "begins", "ends"),
    [
        ({"TERM": "xterm-kitty"}, "\x1b_Ga=T,f=100,", "\x1b\\\n"),
        ({"TERM_PROGRAM": "iTerm.app"}, "\x1b]1337;File=inline=1;", "\x07\n"),
    ],
)
def test_terminals_that_show_pictures_are_sent_one(environment: dict[str, str], begins: str, ends: str) -> None:
    lines = io.StringIO()
    console = Console(file=lines, force_terminal=True)

    assert show_image(console, base64.b64decode(picture().b64_json), environment)

    assert lines.getvalue().startswith(begins)
    assert lines.getvalue().endswith(ends)


def test_large_pictures_reach_kitty_in_chunks_that_add_up() -> None:
    encoded = io.BytesIO()
    Image.effect_noise((100, 100), 90).convert("RGB").save(encoded, format="png")
    lines = io.StringIO()
    show_image(Console(file=lines, force_terminal=True), encoded.getvalue(), {"KITTY_WINDOW_ID": "1"})

    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", lines.getvalue())
    assert len(chunks) > 2
    assert [keys.rpartition("m=")[2] for keys, _ in chunks] == ["1"] * (len(chunks) - 1) + ["0"]
    assert all(len(payload) <= 4096 for _, payload in chunks)
    shown = Image.open(io.BytesIO(base64.b64decode("".join(payload for _, payload in chunks))))
    assert shown.tobytes() == Image.open(encoded).tobytes()


def test_other_colour_terminals_show_half_blocks() -> None:
    lines = io.StringIO()
    console = Console(file=lines, force_terminal=True, color_system="truecolor", width=40)

    assert show_image(console, base64.b64decode(picture().b64_json), {})

    assert "38;2;255;0;0;48;2;255;0;0m▀" in lines.getvalue()
    assert lines.getvalue().count("\n") == 16


def test_a_file_is_sent_no_picture() -> None:
    assert not show_image(Console(file=io.StringIO()), b"", {"TERM": "xterm-kitty"})


def test_train_passes_its_options_on() -> None:
    result = CliRunner().invoke(app, ["train", "--help"])

    assert result.exit_code == 0
    assert "--seed" in result.output


def test_the_page_needs_nothing_but_itself(start_server: StartServer, tmp_path: Path) -> None:
    url = start_server(scripted_engine(*STORY), ScriptedPool())
    run("<script>alert(1)</script>", "--url", url, "--out", str(tmp_path))
    page = (tmp_path / "answer.html").read_text()

    assert "http" not in page
    assert "<script" not in page
    assert "prefers-color-scheme: dark" in page
    assert "scripted · " in page


def test_control_characters_of_the_model_do_not_reach_the_terminal() -> None:
    lines = io.StringIO()
    view = TerminalView(Console(file=lines, width=80), {})
    view.show(TextDeltaEvent(sequence=1, part=0, text="a\x1b]0;title\x07b\x9b31m\r\tc\n€"))
    view.close()

    assert lines.getvalue().split() == ["a]0;titleb31m", "c", "€"]


def test_control_characters_of_a_server_do_not_reach_the_terminal(tmp_path: Path) -> None:
    def refuse(url: str, body: dict[str, Any], api_key: str | None) -> Iterator[StreamEvent]:
        raise RefusedError("no\x1b[2J")
        yield

    errors = generated(refuse, tmp_path)[1]

    assert errors == "no[2J\n"


def generated(stream: Callable[..., Iterator[StreamEvent]], out: Path) -> tuple[Exit, str]:
    """How ``generate`` ends when the events come from a function, and what it says is wrong."""
    errors = io.StringIO()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("server.client.generate.stream_document", stream)
        outcome = generate("", Answer("a"), {}, out, Console(file=io.StringIO()), Console(file=errors))
    return outcome, errors.getvalue()


def test_what_came_before_an_interrupt_is_saved(tmp_path: Path) -> None:
    def interrupted(url: str, body: dict[str, Any], api_key: str | None) -> Iterator[StreamEvent]:
        yield TextDeltaEvent(sequence=1, part=0, text="Once upon")
        raise KeyboardInterrupt

    assert generated(interrupted, tmp_path)[0] is Exit.INTERRUPTED
    assert parts_of(tmp_path / "answer.html") == ["Once upon"]


def test_what_waited_for_a_picture_that_never_came_is_shown_at_the_end() -> None:
    lines = io.StringIO()
    view = TerminalView(Console(file=lines, width=80), {})
    view.show(ImageQueuedEvent(sequence=1, part=0, position=0, eta_s=None))
    view.show(TextDeltaEvent(sequence=2, part=1, text="between"))
    view.show(ImageQueuedEvent(sequence=3, part=2, position=0, eta_s=None))
    view.show(TextDeltaEvent(sequence=4, part=3, text="after"))
    view.close()

    assert 0 < lines.getvalue().index("between") < lines.getvalue().index("after")


def test_pictures_of_an_earlier_answer_do_not_stay_beside_a_new_one(tmp_path: Path) -> None:
    for name in ("picture-3.png", "picture-mine.png", "picture-1.txt"):
        (tmp_path / name).touch()
    Answer("a", pictures={1: Picture(b"new", "webp", 4, 4)}).save(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {
        "answer.html",
        "picture-1.webp",
        "picture-mine.png",
        "picture-1.txt",
    }


def test_events_of_kinds_that_the_client_does_not_know_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    known = TextDeltaEvent(sequence=2, part=0, text="a")
    unknown = 'event: audio.delta\ndata: {"type": "audio.delta"}\n\n'
    frames = f"{unknown}event: text.delta\ndata: {known.model_dump_json()}\n\n"
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, text=frames)
    client = httpx.Client(transport=httpx.MockTransport(lambda request: response))
    monkeypatch.setattr(httpx, "Client", lambda **options: client)

    assert list(stream_document("http://localhost", {})) == [known]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_no_proxy_stands_before_a_server_of_this_machine(
    host: str, start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    port = start_server(scripted_engine(*STORY), ScriptedPool()).rpartition(":")[2]

    assert run("a", "--url", f"http://{host}:{port}", "--out", str(tmp_path)).exit_code == 0


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://localhost:8000", True),
        ("http://127.0.0.2", True),
        ("http://[::1]:8000/path", True),
        ("http://10.0.0.1", False),
        ("https://localhost.example.com", False),
    ],
)
def test_loopback_is_told_from_the_rest(url: str, here: bool) -> None:
    assert is_loopback(url) is here
