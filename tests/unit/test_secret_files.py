"""Secrets in files: read at start and again, never shown."""

from pathlib import Path

import pytest

from nexus_graph.addresses import where
from nexus_graph.config import SECRET_MAX_BYTES, SECRETS, Settings
from nexus_graph.secret_files import secret_of
from nexus_graph.variables import UnusableSettings, read_settings

SECRET = "s3cr3t-of-nobody"
URL = f"postgresql://nexus:{SECRET}@db.example/nexus"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secret"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_stands_for_the_variable(monkeypatch: pytest.MonkeyPatch, file: Path, end: str) -> None:
    values = dict.fromkeys(SECRETS, URL) | {"redis_url": f"redis://:{SECRET}@r/0", "neo4j_password": f" {SECRET} "}
    for name, variable in SECRETS.items():
        each = file.with_name(name)
        each.write_text(values[name] + end, encoding="utf-8")
        monkeypatch.setenv(variable, str(each))
    settings = Settings()
    for name in SECRETS:
        assert getattr(settings, name).get_secret_value() == secret_of(settings, name) == values[name]
    assert where(settings, "database_url") == "db.example/nexus (DATABASE_URL_FILE)"
    assert SECRET not in repr(settings) + settings.model_dump_json()


@pytest.mark.parametrize("variable", SECRETS.values())
def test_one_of_both_is_enough(monkeypatch: pytest.MonkeyPatch, file: Path, variable: str) -> None:
    monkeypatch.setenv(variable, str(file))
    monkeypatch.setenv(variable.removesuffix("_FILE"), URL)
    with pytest.raises(UnusableSettings, match=f"and {variable} are both set"):
        read_settings({})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "names a file that is empty"),
        (b"\n\n", "names a file that is empty"),
        (b"\xff" + SECRET.encode(), "not text in UTF-8"),
        (f"{SECRET}\n{SECRET}".encode(), "holds several lines"),
        (b"x" * (SECRET_MAX_BYTES + 1), "more than 65536 bytes"),
        (SECRET.encode(), "is no postgresql:// address"),
        (f"postgresql://nexus:{SECRET}/x@db/nexus".encode(), "is no postgresql:// address: its port"),
    ],
)
def test_a_fault_of_a_file_is_told_without_its_content(
    monkeypatch: pytest.MonkeyPatch, file: Path, content: bytes | None, told: str
) -> None:
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("DATABASE_URL_FILE", str(file))
    with pytest.raises(UnusableSettings) as refused:
        read_settings({})
    (fault,) = refused.value.faults
    assert fault.startswith("DATABASE_URL_FILE ")
    assert told in fault
    assert SECRET not in fault


@pytest.mark.parametrize("content", [b"", b"\xff", b"redis://elsewhere/0", f"{URL}\n{URL}".encode(), None])
def test_what_a_file_held_last_counts_while_it_holds_nothing_usable(
    file: Path, content: bytes | None, capfd: pytest.CaptureFixture[str]
) -> None:
    file.write_text(URL, encoding="utf-8")
    settings = Settings(database_url_file=file)
    rotated = URL.replace(SECRET, SECRET * 2)
    file.write_text(rotated, encoding="utf-8")
    assert secret_of(settings, "database_url") == rotated
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    for _ in range(3):
        assert secret_of(settings, "database_url") == rotated
    told = capfd.readouterr().err
    assert told.count("secret_not_read") == 1
    assert SECRET not in told
    file.write_text(URL, encoding="utf-8")
    assert secret_of(settings, "database_url") == URL
