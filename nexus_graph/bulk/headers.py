"""Names of columns in exports of contacts, and what such a column holds.

A name is compared by its letters alone, without case, accents, digits and marks: "E-mail 2 - Value", "Email value" and
"EMAIL_VALUE" are one. So columns that an export numbers need no entry for each number.

The names come from the programs' own files, of late 2026:

- HubSpot: the default properties of contacts (knowledge.hubspot.com, "default contact properties").
- Salesforce: the fields of Contact and Lead, by API name and by label (developer.salesforce.com, "field reference").
- Google Contacts: "Google CSV" before and after 2024 ("- Type" became "- Label").
- Outlook: "comma separated values" of the classic program in its languages, and of outlook.com. Exchange's own importer
  keeps the same lists (OutlookCsvLanguage). Open-Xchange's tests hold German and French files.
- Mailchimp, Shopify, WooCommerce, Pipedrive, Zoho, LinkedIn, Thunderbird: the headers of their exports of contacts.
"""

# ruff: noqa: RUF001 - the names in other scripts are intended

import re
import unicodedata
from typing import Final, Literal

Kind = Literal["email", "phone"]
Header = Literal["email", "phone", "neither", "unclear", "unknown"]
"""What a column's name says. `neither`: about emails or phones, but none of this contact's own.
`unclear`: looks like an email or a phone. `unknown`: about neither of the two."""


def letters(name: str) -> str:
    """The letters by which names are compared."""
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    return "".join(character for character in decomposed if unicodedata.category(character)[0] == "L")


def _all(*names: str) -> frozenset[str]:
    return frozenset(map(letters, names))


_EMAIL: Final = _all(
    # English, and what programs call it
    *("email", "e-mail", "mail", "email address", "e-mail addresses", "email addresses", "emails", "mail address"),
    *("primary email", "secondary email", "alternate email", "other email", "personal email", "work email"),
    *("home email", "business email", "contact email", "customer email", "user email", "additional email"),
    *("primary email address", "secondary email address", "personal email address", "work email address"),
    *("e-mail - value", "e-mail value", "email id", "email work", "email home", "email other", "email primary"),
    *("billing email", "additional email addresses", "e-mail address value"),
    # German
    *("E-Mail-Adresse", "E-Mail: Adresse", "Mailadresse", "E-Mail privat", "E-Mail geschäftlich", "E-Mail-Adressen"),
    # French
    *("Adresse de messagerie", "Adresse e-mail", "Adresse mail", "Adresse électronique", "Courriel", "Mél"),
    *("Adresse courriel", "Adresse email", "E-mail professionnel", "E-mail personnel"),
    # Spanish
    *("Correo electrónico", "Dirección de correo electrónico", "Dirección del correo electrónico", "Correo"),
    *("Dirección de email", "Dirección de e-mail"),
    # Portuguese
    *("Endereço de email", "Endereço de e-mail", "Correio electrónico", "Correio eletrônico", "Correio eletrónico"),
    *("Endereço do correio electrónico", "Endereço de correio electrónico", "Endereço eletrônico"),
    # Italian
    *("Indirizzo posta elettronica", "Indirizzo di posta elettronica", "Posta elettronica", "Indirizzo e-mail"),
    *("Indirizzo mail",),
    # Dutch
    *("E-mailadres", "Mailadres", "E-mailadressen"),
    # Polish
    *("Adres e-mail", "Adres email", "Adres poczty elektronicznej", "Poczta elektroniczna"),
    # Swedish, Danish, Norwegian, Finnish, Estonian
    *("E-post", "E-postadress", "E-postadresse", "Epost", "E-mailadresse", "Sähköposti", "Sähköpostiosoite"),
    *("Meiliaadress", "E-posti aadress"),
    # Czech, Slovak, Hungarian, Romanian, Turkish, Vietnamese, Indonesian
    *("E-mailová adresa", "Emailová adresa", "E-mail cím", "E-mail-cím", "Adresă de e-mail", "Adresă e-mail"),
    *("E-posta", "E-posta adresi", "Eposta", "Địa chỉ email", "Thư điện tử", "Alamat email", "Surel"),
    # Russian, Ukrainian, Greek
    *("Электронная почта", "Адрес электронной почты", "Эл. почта", "Почта", "Имейл", "Електронна пошта"),
    *("Ηλεκτρονικό ταχυδρομείο", "Διεύθυνση ηλεκτρονικού ταχυδρομείου"),
    # Japanese, Chinese, Korean
    *("電子メール", "電子メール アドレス", "メール", "メールアドレス", "Eメール", "Eメールアドレス"),
    *(
        "电子邮件",
        "电子邮件地址",
        "邮箱",
        "电子邮箱",
        "邮箱地址",
        "邮件地址",
        "電子郵件",
        "電子郵件地址",
        "電郵",
        "電郵地址",
    ),
    *("信箱", "電子信箱", "이메일", "이메일 주소", "전자 메일", "전자 메일 주소", "메일", "메일 주소"),
    # Arabic, Hebrew
    *("البريد الإلكتروني", "بريد إلكتروني", "דואר אלקטרוני", "אימייל", "דוא״ל"),
)

_PHONE: Final = _all(
    # English, and what programs call it
    *("phone", "phones", "phone number", "phone numbers", "phone no", "telephone", "telephone number", "tel", "tel no"),
    *("mobile", "mobile phone", "mobile number", "mobile no", "mobile phone number", "mob", "mob no", "cell"),
    *("cell phone", "cell phone number", "cellphone", "cell number", "cellular", "contact number", "contact no"),
    *("contact phone", "customer phone", "primary phone", "primary phone number", "secondary phone", "other phone"),
    *("home phone", "home phone number", "work phone", "work phone number", "business phone", "personal phone"),
    *("business phone number", "business mobile", "work mobile", "home mobile", "car phone", "radio phone"),
    *("alternate phone", "alternative phone", "day phone", "daytime phone", "evening phone", "direct phone"),
    *("phone - value", "phone value", "phone work", "phone mobile", "phone home", "phone other", "phone primary"),
    *("whatsapp", "whatsapp number", "whatsapp phone number", "sms phone number", "sms phone", "sms number"),
    *("default address phone", "billing phone", "TTY/TDD Phone", "tel number", "telno", "msisdn", "phone1"),
    # German
    *("Telefon", "Telefonnummer", "Tel.-Nr.", "Tel. Nr.", "Telnr", "Rufnummer", "Mobil", "Mobiltelefon", "Mobilnummer"),
    *("Mobiltelefonnummer", "Handy", "Handynummer", "Handy-Nr.", "Mobilfunk", "Mobilfunknummer", "Festnetz"),
    *("Telefon geschäftlich", "Telefon (geschäftlich)", "Telefon privat", "Telefon mobil", "Weiteres Telefon"),
    *("Haupttelefon", "Autotelefon", "Telefon für Hörbehinderte", "Telefon dienstlich"),
    # French
    *("Téléphone", "Numéro de téléphone", "N° de téléphone", "Tél.", "Tél. mobile", "Téléphone mobile", "Portable"),
    *("Téléphone portable", "Numéro de portable", "Tél. portable", "Téléphone (bureau)", "Téléphone (domicile)"),
    *("Téléphone (autre)", "Téléphone (voiture)", "Téléphone principal", "Radio téléphone", "Téléphone fixe"),
    *("Téléphone TDD/TTY", "Téléphone professionnel", "Téléphone personnel", "Fixe"),
    # Spanish
    *("Teléfono", "Número de teléfono", "Nº de teléfono", "Móvil", "Teléfono móvil", "Número de móvil", "Celular"),
    *("Teléfono celular", "Número de celular", "Teléfono fijo", "Teléfono del trabajo", "Teléfono principal"),
    *("Otro teléfono", "Radioteléfono", "Teléfono particular", "Teléfono de casa", "Teléfono del coche"),
    # Portuguese
    *("Telefone", "Número de telefone", "Telemóvel", "Telefone celular", "Telefone residencial", "Telefone fixo"),
    *("Telefone comercial", "Telefone principal", "Outro telefone", "Telefone da residência", "Telefone da empresa"),
    *("Telefone do carro", "Radiofone", "Radiotelefone", "Telefone TTY/TDD", "Telefone móvel", "Número do celular"),
    # Italian
    *(
        "Telefono",
        "Numero di telefono",
        "Cellulare",
        "Numero di cellulare",
        "Telefono cellulare",
        "Telefono principale",
    ),
    *("Altro telefono", "Telefono auto", "Radiotelefono", "Telefono TTY/TDD", "Telefono ufficio", "Telefono casa"),
    *("Telefono fisso",),
    # Dutch
    *("Telefoon", "Telefoonnummer", "Mobiel", "Mobiele telefoon", "Mobiel nummer", "Mobiel telefoonnummer", "Gsm"),
    *("Telefoon op werk", "Telefoon thuis", "Andere telefoon", "Hoofdtelefoon", "Autotelefoon", "Radiotelefoon"),
    *("Telefoon werk", "Telefoon privé", "Gsm-nummer", "Teksttelefoon"),
    # Polish
    *("Numer telefonu", "Nr telefonu", "Telefon komórkowy", "Komórka", "Telefon domowy", "Telefon służbowy"),
    *("Inny telefon", "Telefon podstawowy", "Telefon w samochodzie", "Radiotelefon", "Telefon TTY/TDD"),
    # Swedish, Danish, Norwegian, Finnish, Estonian
    *("Telefonnummer arbete", "Mobiltelefon", "Mobilnummer", "Telefon hem", "Telefon arbete", "Tlf", "Tlf.nr."),
    *("Telefonnr", "Mobilnr", "Mobil nr", "Puhelin", "Puhelinnumero", "Matkapuhelin", "Matkapuhelinnumero", "GSM"),
    *("Kodutelefon", "Töötelefon", "Mobiiltelefon", "Muu telefon", "Esmane telefon"),
    # Czech, Slovak, Hungarian, Romanian, Turkish, Vietnamese, Indonesian
    *("Telefonní číslo", "Telefónne číslo", "Telefonszám", "Mobiltelefonszám", "Număr de telefon", "Telefon mobil"),
    *("Telefon numarası", "Cep telefonu", "Cep", "Telefon No", "Điện thoại", "Số điện thoại", "Di động"),
    *("Điện thoại di động", "Telepon", "Nomor telepon", "No HP", "No. Telepon", "Nomor HP"),
    # Russian, Ukrainian, Greek
    *("Телефон", "Номер телефона", "Мобильный телефон", "Мобильный", "Тел.", "Номер телефону", "Мобільний телефон"),
    *("Τηλέφωνο", "Κινητό", "Κινητό τηλέφωνο", "Αριθμός τηλεφώνου"),
    # Japanese, Chinese, Korean
    *("電話", "電話番号", "携帯", "携帯電話", "携帯電話番号", "携帯番号", "自宅電話", "会社電話", "その他の電話"),
    *("通常の電話", "自動車電話", "無線電話"),
    *("电话", "电话号码", "手机", "手机号", "手机号码", "移动电话", "联系电话", "住宅电话", "商务电话", "其他电话"),
    *("主要电话", "车载电话", "電話號碼", "手機", "手機號碼", "行動電話", "聯絡電話", "固定电话"),
    *(
        "전화",
        "전화번호",
        "휴대폰",
        "휴대폰 번호",
        "휴대전화",
        "휴대 전화",
        "핸드폰",
        "집 전화 번호",
        "근무처 전화",
        "기타 전화",
    ),
    # Arabic, Hebrew
    *("الهاتف", "رقم الهاتف", "الجوال", "رقم الجوال", "טלפון", "מספר טלפון", "נייד", "טלפון נייד"),
)

_NEITHER: Final = _all(
    # A property of an email or a phone, or another person's email or phone
    *("email display name", "e-mail display name", "e-mail type", "email type", "e-mail - type", "e-mail - label"),
    *("phone - type", "phone - label", "phone type", "email domain", "callback", "isdn", "telex"),
    *("assistant's phone", "assistant phone", "asst. phone", "assistant telephone", "company main phone"),
    *("company phone", "company phone number", "do not call", "has opted out of email"),
    *("E-Mail-Typ", "E-Mail: Typ", "E-Mail: Angezeigter Name", "Telefon Assistent", "Telefon Firma", "Rückmeldung"),
    *("Type de messagerie", "Nom complet de l'adresse de messagerie", "Téléphone de l'assistant(e)", "Rappel"),
    *("Téléphone société",),
    *("Tipo de correo electrónico", "Nombre de pantalla de correo electrónico", "Devolución de llamada"),
    *("Número de centralita de la organización", "Número de teletipo", "Teléfono del ayudante"),
    *("Tipo de email", "Nome para exibição do email", "Tipo de correio electrónico", "Retorno de chamada"),
    *("Nome a apresentar para o correio electrónico", "Telefone do assistente", "Telefone principal da empresa"),
    *("Tipo posta elettronica", "Nome visualizzato posta elettronica", "Telefono assistente"),
    *("Telefono principale società", "Richiamata automatica"),
    *("E-mailtype", "Weergavenaam voor e-mail", "E-mail, weergegeven naam", "Telefoon assistent", "Terugbellen"),
    *("Hoofdtelefoon bedrijf",),
    *("Typ poczty e-mail", "Rodzaj e-mail", "Nazwa wyświetlana e-mail", "Wyświetlana nazwa e-mail"),
    *("Telefon asystenta", "Główny telefon do firmy", "Wywołanie zwrotne"),
    *("電子メールの種類", "電子メール の種類", "電子メール表示名", "電子メール 表示名", "秘書の電話", "会社代表電話"),
    *("コールバック", "TTY/TDD"),
    *(
        "电子邮件类型",
        "电子邮件显示名称",
        "电子邮件显示名",
        "助理的电话",
        "单位主要电话",
        "回电话",
        "无绳电话",
        "TTY/TDD 电话",
    ),
    *("전자 메일 유형", "전자 메일 표시 이름"),
)

_WITH: Final = {
    letters("Abitazione"): letters("Indirizzo posta elettronica"),
    letters("Ufficio"): letters("Indirizzo posta elettronica"),
    letters("Particular"): letters("Teléfono del trabajo"),
}
"""Names of phones in Outlook's exports. Without the second name in the same header they mean something else."""


def _any(*stems: str) -> "re.Pattern[str]":
    return re.compile("|".join(map(letters, stems)))


_FAXES: Final = _any(
    *("fax", "faks", "télécopie", "pager", "beeper", "cercapersone", "radiomessagerie", "ファックス", "ポケットベル"),
    *("传真", "傳真", "寻呼", "팩스", "факс", "φαξ"),
)
_EMAIL_STEMS: Final = _any(
    *("email", "emeil", "courriel", "messagerie", "correo", "correio", "posta elettronica", "mailadres", "epost"),
    *(
        "sähköpost",
        "meiliaadress",
        "メール",
        "邮箱",
        "邮件",
        "郵件",
        "電郵",
        "信箱",
        "이메일",
        "메일",
        "почт",
        "имейл",
        "пошт",
    ),
    *("ηλεκτρονικ", "بريد", "דואר", "אימייל"),
)
_PHONE_STEMS: Final = _any(
    *("phone", "telefon", "telefoon", "telephon", "telepon", "telemóvel", "puhelin", "komórk", "rufnummer"),
    *(
        "điện thoại",
        "whatsapp",
        "msisdn",
        "celular",
        "cellular",
        "contact number",
        "電話",
        "电话",
        "手机",
        "手機",
        "携帯",
    ),
    *("ケータイ", "전화", "휴대", "핸드폰", "телефон", "мобильн", "мобільн", "τηλέφων", "κινητό", "هاتف", "جوال"),
    *("موبايل", "טלפון", "נייד", "โทร", "มือถือ", "फोन", "मोबाइल"),
)
_NO_PHONE: Final = "phonetic"
_EMAIL_WORDS: Final = frozenset({"mail", "mails", "mel"})
_PHONE_WORDS: Final = frozenset(
    {
        "tel",
        "tlf",
        "tlfn",
        "tfn",
        "fon",
        "ph",
        "mob",
        "cell",
        "cells",
        "cel",
        "handy",
        "gsm",
        "sms",
        "viber",
        "portable",
    }
    | {"mobile", "mobil", "mobiles", "mobiel", "movil", "movel", "тел", "моб", "cep", "hp"}
)
# A name with one of these words describes an email or a phone: its last use, its consent.
_ABOUT_WORDS: Final = (
    "type typ tipo tip label labels status state optin optout opt out consent marketing accepts accept subscribed "
    "unsubscribed bounced bounce bounces verified valid validated date time at count total sent sends opened opens "
    "clicks clicked domain display name names ext extension extn country code prefix language quality source template "
    "campaign click open rate score reason error format carrier provider service client confirmed has flag tags "
    "permission allowed preference preferences"
)
_ABOUT: Final = frozenset(_ABOUT_WORDS.split())
_WORDS: Final = re.compile(r"[^\W\d_]+")
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def header(name: str, others: frozenset[str]) -> tuple[Header, Kind | None]:
    """What a column's name says, and the kind that the name mentions; `others` are the letters of all names."""
    key = letters(name)
    if key in _EMAIL:
        return "email", "email"
    if key in _PHONE or (key in _WITH and _WITH[key] in others):
        return "phone", "phone"
    if key in _NEITHER or _FAXES.search(key):
        return "neither", None
    words = set(_WORDS.findall(_without_accents(_CAMEL.sub(" ", name))))
    kind: Kind | None = None
    if _EMAIL_STEMS.search(key) or words & _EMAIL_WORDS:
        kind = "email"
    elif _PHONE_STEMS.search(key.replace(_NO_PHONE, "")) or words & _PHONE_WORDS:
        kind = "phone"
    if kind is None or words & _ABOUT:
        return "unknown", None
    return "unclear", kind


def _without_accents(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))
