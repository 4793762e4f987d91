"""`nexus-graph dev-token`: a developer's token, and who takes it."""

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from nexus_graph.cli import app as cli
from nexus_graph.devstack.process import StackError
from nexus_graph.devstack.stack import AppProcess, Stack, StackOptions
from nexus_graph.door import dev_key
from nexus_graph.door.permissions import Role
from nexus_graph.door.principal import Principal
from nexus_graph.door.tokens import Tokens
from nexus_graph.errors import Unauthenticated
from nexus_graph.variables import read_settings

pytestmark = pytest.mark.usefixtures("no_issuer")


@pytest.fixture
def no_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("NEXUS_JWT_"):
            monkeypatch.delenv(name)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli(["dev-token", *words])
    assert isinstance(ended.value.code, int)
    return ended.value.code


async def principal(data_dir: Path, token: str, monkeypatch: pytest.MonkeyPatch) -> Principal:
    """Whom a server sees that `up` has started."""
    with monkeypatch.context() as patched:
        for name, value in variables(data_dir).items():
            patched.setenv(name, value)
        tokens = Tokens(read_settings(os.environ))
    await tokens.start()
    try:
        return await tokens.principal(token.encode())
    finally:
        await tokens.close()


def variables(data_dir: Path, *, host: str = "127.0.0.1", **given: str) -> dict[str, str]:
    """Those of the API's process that `up` starts with `given` variables in its own environment."""
    stack = Stack(StackOptions(host=host, data_dir=data_dir, quiet=True, env=given))
    return {**stack._variables_of_dev_tokens(), **given}


async def test_a_token_is_printed_that_up_takes(
    data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("--role", "steward", "--role", "operator", "--data-dir", str(data_dir)) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    seen = await principal(data_dir, printed.out.strip(), monkeypatch)
    assert seen.roles == {Role.STEWARD, Role.OPERATOR}
    assert seen.name.startswith("user:")


async def test_json_for_programs(
    data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--role", "reader", "--subject", "ada", "--expires", "15m", "--data-dir", str(data_dir), "--json")
    assert run(*words) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"id", "name", "roles", "key", "expires"}
    assert told["roles"] == ["reader"]
    seen = await principal(data_dir, told["key"], monkeypatch)
    assert seen.name == told["name"]
    assert "ada" not in told["name"]


async def test_a_token_of_another_data_directory_does_not_count(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("--role", "admin", "--data-dir", str(tmp_path / "other")) == 0
    with pytest.raises(Unauthenticated):
        await principal(data_dir, capsys.readouterr().out.strip(), monkeypatch)


def test_the_key_is_its_owners_and_stays(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = os.umask(0)
    try:
        assert run("--role", "reader", "--data-dir", str(data_dir)) == 0
    finally:
        os.umask(old)
    key, public = data_dir / "dev-token-key.json", data_dir / "dev-token-jwks.json"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert sorted(path.name for path in data_dir.iterdir()) == [public.name, key.name]
    (listed,) = json.loads(public.read_text())["keys"]
    assert "d" in json.loads(key.read_text())
    assert "d" not in listed
    before = key.read_bytes()
    assert run("--role", "reader", "--data-dir", str(data_dir)) == 0
    assert key.read_bytes() == before
    assert json.loads(before)["d"] not in capsys.readouterr().out


def test_many_who_come_first_make_one_key(data_dir: Path) -> None:
    begin = threading.Barrier(8)
    made = []

    def sign() -> None:
        begin.wait()
        made.append(dev_key.sign(data_dir, roles=[Role.READER], subject="ada", seconds=60).token.split(".")[0])

    threads = [threading.Thread(target=sign) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1  # the header names the key


def test_a_key_that_others_can_read_is_refused(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--role", "reader", "--data-dir", str(data_dir)) == 0
    (data_dir / "dev-token-key.json").chmod(0o640)
    capsys.readouterr()
    assert run("--role", "reader", "--data-dir", str(data_dir)) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "others can read" in printed.err
    with pytest.raises(StackError, match="others can read"):
        variables(data_dir)


def test_a_damaged_key_is_refused(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_dir.mkdir()
    (data_dir / "dev-token-key.json").touch(mode=0o600)
    assert run("--role", "reader", "--data-dir", str(data_dir)) == 1
    assert "holds no key: remove" in capsys.readouterr().err


def test_a_data_directory_that_cannot_be_made_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert run("--role", "reader", "--data-dir", str(tmp_path / "file" / "data")) == 1
    assert "cannot be read or written: Not a directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("--role", "root"), "is not one of 'reader', 'service'"),
        (("--role", "reader", "--expires", "soon"), "give a whole number and a unit"),
        (("--role", "reader", "--expires", "0s"), "--expires must be 1s to 90d"),
        (("--role", "reader", "--expires", "91d"), "--expires must be 1s to 90d"),
        (("--role", "reader", "--subject", ""), "--subject must be 1 to 255 printable characters"),
        (("--role", "reader", "--subject", "a\nb"), "--subject must be 1 to 255 printable characters"),
        ((), "Missing option '--role'"),
    ],
)
def test_wrong_words_make_nothing(
    data_dir: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], fault: str
) -> None:
    assert run(*words, "--data-dir", str(data_dir)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert fault in printed.err
    assert not data_dir.exists()


def test_an_issuer_in_the_environment_is_named(
    data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXUS_JWT_ISSUER", "https://issuer.example")
    assert run("--role", "reader", "--data-dir", str(data_dir)) == 0
    assert "NEXUS_JWT_ISSUER is set" in capsys.readouterr().err


@pytest.mark.parametrize("name", dev_key.ISSUER_VARIABLES)
def test_up_leaves_an_operators_issuer_alone(data_dir: Path, name: str) -> None:
    assert variables(data_dir, **{name: "x"}) == {name: "x"}
    assert not data_dir.exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2"])
def test_up_takes_no_such_token_where_other_machines_come(data_dir: Path, host: str) -> None:
    assert variables(data_dir, host=host) == {}
    assert not data_dir.exists()


def test_up_tells_the_api(data_dir: Path) -> None:
    stack = Stack(StackOptions(data_dir=data_dir, quiet=True))
    stack._dev_tokens = stack._variables_of_dev_tokens()
    stack._urls = type("Urls", (), {"api": "", "environment": lambda _: {}})()
    told = stack._app_command(AppProcess("api", ("true",))).env
    assert told is not None
    assert told["NEXUS_JWT_ISSUER"] == dev_key.ISSUER
    assert Path(told["NEXUS_JWT_JWKS"]).parent == data_dir
