"""The values in a cell of a file, before `normalize` makes them canonical.

A cell may hold several values, or a word, a mark or zeros for "no value": N/A. `normalize` reads the forms in which
spreadsheets write a value (`'+1…`, `="+1…"`, `447900901001.0`, `4.47901E+11`): people paste these forms everywhere.
"""

# ruff: noqa: RUF001 - words in other scripts are intended

import re
from typing import Final

from nexus_graph.bulk.headers import Kind
from nexus_graph.identifiers.normalize import Written

_BETWEEN_VALUES: Final[dict[Kind, tuple[str, ...]]] = {"email": (":::", ";"), "phone": (":::",)}
"""Separators of several values in a cell, which no value contains: Google Contacts colons, HubSpot semicolons."""

_is_zeros: Final = re.compile(r"[+\s().\-/]*0[0\s().\-/]*").fullmatch

_NO_VALUE_WORDS: Final = (
    # English, and what programs write
    "n/a na n.a. n.a #n/a #n/d #value! #ref! #name? #null! null none nan nil undefined unknown void empty blank tbd "
    "tba x xx xxx no missing unavailable <na> <null> (null) (none) (blank) [null] unlisted private withheld anonymous "
    "noemail nomail nophone "
    # German, Dutch, Scandinavian, Finnish
    "keine kein keiner k.a. k.a unbekannt entfällt geen onbekend nvt n.v.t. n.v.t ingen ingenting saknas okänd ukendt "
    "ukjent puuttuu tuntematon "
    # French, Spanish, Portuguese, Italian
    "aucun aucune néant neant inconnu inconnue s.o. s/o nc n.c. ninguno ninguna desconocido s/n s/d nenhum nenhuma "
    "desconhecido nessuno nessuna sconosciuto n.d. nd n.p. "
    # Polish, Czech, Hungarian, Romanian, Turkish
    "brak nieznany nieznane žádný zadny neznámý nincs ismeretlen necunoscut yok bilinmiyor "
    # Russian, Greek
    "нет н/д неизвестно немає δ/υ κανένα "
    # Japanese, Chinese, Korean, Arabic, Hebrew
    "なし 無し 無 不明 无 没有 沒有 未知 不详 不詳 暂无 없음 미상 لا غير אין"
)
_NO_VALUE: Final = frozenset(_NO_VALUE_WORDS.split()) | {
    *("not available", "not provided", "not applicable", "not known", "not given", "no phone", "no email", "no number"),
    *("no e-mail", "no mail", "none given", "k. a.", "keine angabe", "nicht bekannt", "nicht vorhanden", "ei ole"),
    *("non renseigné", "non communiqué", "sans objet", "pas de téléphone", "pas d'email", "no tiene", "sin teléfono"),
    *("sin correo", "não tem", "não informado", "sem telefone", "sem email", "non disponibile", "nie dotyczy"),
    *("geen email", "geen telefoon", "не указан", "не указано"),
}


def parts(cell: object, kind: Kind) -> list[object]:
    """The values in a cell: none, one, or several between separators."""
    if isinstance(cell, str):
        texts = [cell]
        for mark in _BETWEEN_VALUES[kind]:
            texts = [text for whole in texts for text in whole.split(mark)]
        return [text for text in map(str.strip, texts) if text]
    if isinstance(cell, list):
        return [part for item in cell for part in ([item] if isinstance(item, list) else parts(item, kind))]
    return [] if cell is None else [cell]


def meaning(part: object, kind: Kind) -> object:
    """The part unchanged; None if the part means "no value"."""
    if isinstance(part, bool):
        return part
    text = part.text if isinstance(part, Written) else str(part) if isinstance(part, int) else part
    if not isinstance(text, str):
        return part
    if not any(map(str.isalnum, text)) or text.casefold() in _NO_VALUE:
        return None
    return None if kind == "phone" and _is_zeros(text) else part
