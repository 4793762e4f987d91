# ruff: noqa: E501, RUF001 - headers stand here as programs write them
"""Which columns hold emails and phones: in the exports of programs, in other languages, and where nobody can tell."""

from pathlib import Path

import pytest

from nexus_graph.bulk.lines import UnclearColumns
from nexus_graph.bulk.words import header
from tests.stage.exports import contacts, pairs, put, understood

OUTLOOK = (
    "Title,First Name,Middle Name,Last Name,Suffix,Company,Department,Job Title,Business Street,Business Street 2,"
    "Business City,Business State,Business Postal Code,Business Country/Region,Home Street,Home City,Assistant's Phone,"
    "Business Fax,Business Phone,Business Phone 2,Callback,Car Phone,Company Main Phone,Home Fax,Home Phone,Home Phone 2,"
    "ISDN,Mobile Phone,Other Fax,Other Phone,Pager,Primary Phone,Radio Phone,TTY/TDD Phone,Telex,Account,Anniversary,"
    "Assistant's Name,Billing Information,Birthday,Categories,Children,Directory Server,E-mail Address,E-mail Type,"
    "E-mail Display Name,E-mail 2 Address,E-mail 2 Type,E-mail 2 Display Name,E-mail 3 Address,E-mail 3 Type,"
    "E-mail 3 Display Name,Gender,Government ID Number,Hobby,Initials,Internet Free Busy,Keywords,Language,Location,"
    "Manager's Name,Mileage,Notes,Office Location,Organizational ID Number,PO Box,Priority,Private,Profession,"
    "Referred By,Sensitivity,Spouse,User 1,User 2,User 3,User 4,Web Page"
)
OUTLOOK_GERMAN = (
    "Anrede,Vorname,Weitere Vornamen,Nachname,Suffix,Firma,Abteilung,Position,Straße geschäftlich,Ort geschäftlich,"
    "Telefon Assistent,Fax geschäftlich,Telefon geschäftlich,Telefon geschäftlich 2,Rückmeldung,Autotelefon,"
    "Telefon Firma,Fax privat,Telefon privat,Telefon privat 2,ISDN,Mobiltelefon,Weiteres Fax,Weiteres Telefon,Pager,"
    "Haupttelefon,Mobiltelefon 2,Telefon für Hörbehinderte,Telex,Konto,E-Mail-Adresse,E-Mail-Typ,"
    "E-Mail: Angezeigter Name,E-Mail 2: Adresse,E-Mail 2: Typ,E-Mail 2: Angezeigter Name,Geburtstag,Notizen"
)
OUTLOOK_FRENCH = (
    "Titre,Prénom,Nom,Société,Téléphone de l'assistant(e),Télécopie (bureau),Téléphone (bureau),Téléphone 2 (bureau),"
    "Rappel,Téléphone (voiture),Téléphone société,Télécopie (domicile),Téléphone (domicile),RNIS,Tél. mobile,"
    "Téléphone (autre),Récepteur de radiomessagerie,Téléphone principal,Adresse de messagerie,Type de messagerie,"
    "Nom complet de l'adresse de messagerie,Adresse de messagerie 2,Type de messagerie 2,Anniversaire,Notes"
)
OUTLOOK_ITALIAN = (
    "Titolo,Nome,Cognome,Società,Telefono assistente,Fax (uff.),Ufficio,Ufficio 2,Richiamata automatica,Telefono auto,"
    "Telefono principale società,Fax (ab.),Abitazione,Abitazione 2,ISDN,Cellulare,Altro fax,Altro telefono,Cercapersone,"
    "Telefono principale,Radiotelefono,Telefono TTY/TDD,Telex,Indirizzo posta elettronica,Tipo posta elettronica,"
    "Nome visualizzato posta elettronica,Indirizzo posta elettronica 2,Ubicazione ufficio,Pagina Web"
)
OUTLOOK_JAPANESE = (
    "姓,名,会社名,秘書の電話,会社 FAX,会社電話,会社電話 2,コールバック,自動車電話,会社代表電話,自宅 FAX,自宅電話,ISDN,携帯電話,"
    "その他の電話,ポケットベル,通常の電話,無線電話,TTY/TDD,電子メール アドレス,電子メールの種類,電子メール表示名,"
    "電子メール 2 アドレス,電子メール 2 の種類,電子メール 2 表示名,誕生日,メモ"
)
OUTLOOK_CHINESE = (
    "名,姓,单位,助理的电话,商务传真,商务电话,商务电话 2,回电话,车载电话,单位主要电话,住宅传真,住宅电话,ISDN,移动电话,其他传真,"
    "其他电话,寻呼机,主要电话,无绳电话,TTY/TDD 电话,电子邮件地址,电子邮件类型,电子邮件显示名称,电子邮件 2 地址,电子邮件 2 类型,"
    "电子邮件 2 显示名,附注,生日"
)
OUTLOOK_POLISH = (
    "Imię,Nazwisko,Firma,Telefon asystenta,Faks służbowy,Telefon służbowy,Wywołanie zwrotne,Telefon w samochodzie,"
    "Główny telefon do firmy,Faks domowy,Telefon domowy,ISDN,Telefon komórkowy,Inny telefon,Pager,Telefon podstawowy,"
    "Adres e-mail,Typ poczty e-mail,Wyświetlana nazwa e-mail,Adres e-mail 2,Rodzaj e-mail 2,Nazwa wyświetlana e-mail 2"
)
OUTLOOK_DUTCH = (
    "Voornaam,Achternaam,Telefoon assistent,Fax op werk,Telefoon op werk,Telefoon op werk 2,Terugbellen,Autotelefoon,"
    "Hoofdtelefoon bedrijf,Fax thuis,Telefoon thuis,ISDN,Mobiele telefoon,Andere telefoon,Pager,Hoofdtelefoon,E-mailadres,"
    "E-mailtype,Weergavenaam voor e-mail,E-mailadres 2,E-mailtype 2,Notities"
)
HUBSPOT = (
    "Record ID,First Name,Last Name,Email,Phone Number,Mobile Phone Number,WhatsApp Phone Number,Fax Number,Contact owner,"
    "Lifecycle Stage,Email Domain,Additional email addresses,Marketing emails opened,Create Date"
)
SALESFORCE = (
    "Id,IsDeleted,AccountId,LastName,FirstName,Salutation,MailingStreet,MailingCity,Phone,Fax,MobilePhone,HomePhone,"
    "OtherPhone,AssistantPhone,ReportsToId,Email,HasOptedOutOfEmail,DoNotCall,EmailBouncedReason,EmailBouncedDate,"
    "IsEmailBounced"
)
SALESFORCE_LABELS = "Account ID,Asst. Phone,Business Fax,Business Phone,Email,Email Opt Out,Home Phone,Mobile Phone"
GOOGLE = (
    "First Name,Middle Name,Last Name,Phonetic First Name,File As,Organization Name,Birthday,Notes,Photo,Labels,"
    "E-mail 1 - Label,E-mail 1 - Value,E-mail 2 - Label,E-mail 2 - Value,Phone 1 - Label,Phone 1 - Value,Phone 2 - Label,"
    "Phone 2 - Value,Address 1 - Label,Address 1 - Formatted,Website 1 - Value"
)
GOOGLE_BEFORE = (
    "Name,Given Name,Additional Name,Family Name,Yomi Name,E-mail 1 - Type,E-mail 1 - Value,Phone 1 - Type,"
    "Phone 1 - Value,Organization 1 - Type,Organization 1 - Name"
)
MAILCHIMP = (
    "Email Address,First Name,Last Name,Address,Phone Number,MEMBER_RATING,OPTIN_TIME,OPTIN_IP,CONFIRM_TIME,TAGS"
)
SHOPIFY = (
    "Customer ID,First Name,Last Name,Email,Accepts Email Marketing,Default Address Company,Default Address Address1,"
    "Default Address Phone,Phone,Accepts SMS Marketing,Total Spent,Total Orders,Note,Tax Exempt,Tags"
)
THUNDERBIRD = (
    "First Name,Last Name,Display Name,Nickname,Primary Email,Secondary Email,Screen Name,Work Phone,Home Phone,"
    "Fax Number,Pager Number,Mobile Number,Home Address"
)


@pytest.mark.parametrize(
    ("names", "emails", "phones"),
    [
        (
            OUTLOOK,
            "E-mail Address,E-mail 2 Address,E-mail 3 Address",
            (
                "Business Phone,Business Phone 2,Car Phone,Home Phone,Home Phone 2,Mobile Phone,Other Phone,Primary Phone,"
                "Radio Phone,TTY/TDD Phone"
            ),
        ),
        (
            OUTLOOK_GERMAN,
            "E-Mail-Adresse,E-Mail 2: Adresse",
            (
                "Telefon geschäftlich,Telefon geschäftlich 2,Autotelefon,Telefon privat,Telefon privat 2,Mobiltelefon,"
                "Weiteres Telefon,Haupttelefon,Mobiltelefon 2,Telefon für Hörbehinderte"
            ),
        ),
        (
            OUTLOOK_FRENCH,
            "Adresse de messagerie,Adresse de messagerie 2",
            (
                "Téléphone (bureau),Téléphone 2 (bureau),Téléphone (voiture),Téléphone (domicile),Tél. mobile,"
                "Téléphone (autre),Téléphone principal"
            ),
        ),
        (
            OUTLOOK_ITALIAN,
            "Indirizzo posta elettronica,Indirizzo posta elettronica 2",
            (
                "Ufficio,Ufficio 2,Telefono auto,Abitazione,Abitazione 2,Cellulare,Altro telefono,Telefono principale,"
                "Radiotelefono,Telefono TTY/TDD"
            ),
        ),
        (
            OUTLOOK_JAPANESE,
            "電子メール アドレス,電子メール 2 アドレス",
            "会社電話,会社電話 2,自動車電話,自宅電話,携帯電話,その他の電話,通常の電話,無線電話",
        ),
        (
            OUTLOOK_CHINESE,
            "电子邮件地址,电子邮件 2 地址",
            "商务电话,商务电话 2,车载电话,住宅电话,移动电话,其他电话,主要电话",
        ),
        (
            OUTLOOK_POLISH,
            "Adres e-mail,Adres e-mail 2",
            "Telefon służbowy,Telefon w samochodzie,Telefon domowy,Telefon komórkowy,Inny telefon,Telefon podstawowy",
        ),
        (
            OUTLOOK_DUTCH,
            "E-mailadres,E-mailadres 2",
            (
                "Telefoon op werk,Telefoon op werk 2,Autotelefoon,Telefoon thuis,Mobiele telefoon,Andere telefoon,"
                "Hoofdtelefoon"
            ),
        ),
        (
            HUBSPOT,
            "Email,Additional email addresses",
            "Phone Number,Mobile Phone Number,WhatsApp Phone Number",
        ),
        (SALESFORCE, "Email", "Phone,MobilePhone,HomePhone,OtherPhone"),
        (SALESFORCE_LABELS, "Email", "Business Phone,Home Phone,Mobile Phone"),
        (GOOGLE, "E-mail 1 - Value,E-mail 2 - Value", "Phone 1 - Value,Phone 2 - Value"),
        (GOOGLE_BEFORE, "E-mail 1 - Value", "Phone 1 - Value"),
        (MAILCHIMP, "Email Address", "Phone Number"),
        (SHOPIFY, "Email", "Default Address Phone,Phone"),
        (THUNDERBIRD, "Primary Email,Secondary Email", "Work Phone,Home Phone,Mobile Number"),
    ],
    ids=lambda value: value[:24],
)
def test_the_exports_of_programs(tmp_path: Path, names: str, emails: str, phones: str) -> None:
    file = put(tmp_path, "a.csv", f"{names}\n")
    said = understood(file)
    assert (said.emails, said.phones) == (emails.split(","), phones.split(","))
    assert sorted(said.emails + said.phones + said.unused) == sorted(names.split(","))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "email") for name in ("E-post", "Correo electrónico", "CORREO ELECTRONICO", "Endereço de e-mail")),
        *((name, "email") for name in ("Courriel", "Sähköposti", "E-posta", "Электронная почта", "メールアドレス")),
        *((name, "email") for name in ("邮箱", "電子郵件", "이메일", "E-mailová adresa", "email_address", "userEmail")),
        *((name, "phone") for name in ("Handy", "Handynummer", "Teléfono móvil", "Telefone celular", "Cellulare")),
        *((name, "phone") for name in ("Mobiel", "Numer telefonu", "Telefonní číslo", "Telefonszám", "Puhelin")),
        *((name, "phone") for name in ("Телефон", "Τηλέφωνο", "電話番号", "手机号码", "휴대폰 번호", "Số điện thoại")),
        *((name, "phone") for name in ("Cep telefonu", "No HP", "Mobile No.", "Cell", "Tel.", "رقم الهاتف", "טלפון")),
    ],
)
def test_names_in_many_languages(name: str, kind: str) -> None:
    assert header(name, frozenset())[0] == kind


@pytest.mark.parametrize(
    ("name", "says"),
    [
        *(
            (name, "unclear")
            for name in ("Shipping Phone", "Owner Email", "Kontakt-Mail", "emergencyTel", "電話2（緊急）")
        ),
        *((name, "unclear") for name in ("Kunden-Handy", "E-posta 2 (iş)", "Phone of the shop", "SMS", "Gast-Telefon")),
        *(
            (name, "unknown")
            for name in ("Name", "Mailing Street", "Phonetic First Name", "Hotel", "Record ID", "City")
        ),
        *(
            (name, "unknown")
            for name in ("Email Opt-In Time", "Accepts SMS Marketing", "Email Verified", "Last phone call at")
        ),
        *(
            (name, "neither")
            for name in ("Fax", "Telefax", "Home Fax", "Company phone number", "Pager", "ファックス番号")
        ),
    ],
)
def test_names_that_only_look_like_one(name: str, says: str) -> None:
    assert header(name, frozenset())[0] == says


def _refused(file: Path, *, mapped: tuple[str, ...] = (), ignored: tuple[str, ...] = ()) -> str:
    with pytest.raises(UnclearColumns) as caught:
        contacts(file, mapped=mapped, ignored=ignored)
    return str(caught.value)


def test_a_column_that_looks_like_one_is_mapped_or_ignored_by_name(tmp_path: Path) -> None:
    file = put(tmp_path, "a.csv", "Email,Shipping Phone,Owner Mail\na@example.com,+14155551101,o@example.com\n")

    said = _refused(file)

    assert said == (
        "Shipping Phone looks like a phone, Owner Mail looks like an email: use or leave out each by name, "
        'as in --map phone="Shipping Phone" or --ignore "Shipping Phone"'
    )
    assert "Shipping" not in _refused(file, ignored=("shipping phone",))
    read = contacts(file, mapped=("phone=Shipping Phone",), ignored=("OWNER MAIL",))
    assert pairs(read) == [(2, ("a@example.com", "+14155551101"))]
    assert pairs(contacts(file, ignored=("column 2", "column 3"))) == [(2, ("a@example.com", None))]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["b@example.com", "", "c@example.com"], "an email"),
        (["+1 415 555 0101", "n/a", "0041 44 555 01 01"], "a phone"),
        (["(415) 555-0101"], "a phone"),
        (["415-555-0101", "415.555.0102"], "a phone"),
        (["0171 1234567"], "a phone"),
        (["'+14155550101"], "a phone"),
        (['="+14155550101"'], "a phone"),
    ],
)
def test_a_column_that_holds_what_its_name_does_not_say(tmp_path: Path, cells: list[str], kind: str) -> None:
    rows = [f"e{place}@example.com;" + '"' + cell.replace('"', '""') + '"' for place, cell in enumerate(cells)]
    said = _refused(put(tmp_path, "a.csv", "\n".join(["email;Reach", *rows])))
    assert said.startswith(f"Reach looks like {kind}")


@pytest.mark.parametrize(
    "cell",
    [
        "2026-11-26",
        "26.11.2026",
        "26/11/2026 10:00",
        "12345678901",
        "10115",
        "00123",
        "192.168.0.1",
        "48.8566",
        "-12.5",
        "Ada, 3 rue X",
        "@ada",
        "1,234.50",
        "+12",
        "1-2",
        "0.0000001234",
    ],
)
def test_what_other_columns_hold_is_no_phone(tmp_path: Path, cell: str) -> None:
    assert understood(put(tmp_path, "a.csv", f'email,Other\na@example.com,"{cell}"\n')).unused == ["Other"]


def test_json_members_are_understood_alike(tmp_path: Path) -> None:
    said = _refused(put(tmp_path, "a.jsonl", '{"email": "a@example.com", "owner": {"contact": ["o@example.com"]}}\n'))
    assert said.startswith("owner looks like an email")
    assert _refused(put(tmp_path, "b.jsonl", '{"name": "Ada"}\n')).startswith(
        "its objects must have members among email"
    )
    read = contacts(put(tmp_path, "c.jsonl", '{"E-mail 1 - Value": "a@example.com", "handy": "123456"}\n'))
    assert pairs(read) == [(1, ("a@example.com", "123456"))]


def test_a_choice_that_fits_no_column(tmp_path: Path) -> None:
    file = put(tmp_path, "a.csv", "email,name\na@example.com,Ada\n")
    assert (
        _refused(file, mapped=("phone=Handy",))
        == 'it has no column "handy": --map and --ignore must name columns of the file'
    )
    assert _refused(file, mapped=("email=name",), ignored=("Name",)) == (
        '"Name" has two meanings in --map and --ignore: name each column once'
    )
    for wrong in ("name", "fax=name", "email=", "=name"):
        assert _refused(file, mapped=(wrong,)).startswith("--map takes email=COLUMN or phone=COLUMN")


def test_mapped_columns_that_nothing_names(tmp_path: Path) -> None:
    file = put(tmp_path, "a.csv", "who;where\na@example.com;+14155551101\n")
    assert pairs(contacts(file, mapped=("email=who", "phoneNumber=where"))) == [(2, ("a@example.com", "+14155551101"))]
    blank = put(tmp_path, "b.csv", "email,,\na@example.com,+14155551101,\n")
    assert pairs(contacts(blank, mapped=("phone=column 2",))) == [(2, ("a@example.com", "+14155551101"))]


def test_two_names_that_together_read_like_a_known_one_are_two(tmp_path: Path) -> None:
    file = put(tmp_path, "people.csv", "contact,number\na@example.com,+14155551101\n")
    with pytest.raises(UnclearColumns, match=r"contact looks like an email, number looks like a phone"):
        understood(file)
