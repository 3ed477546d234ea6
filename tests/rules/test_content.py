"""Rules on lines and mail data: what the pages' examples do not cover, above all when to be silent."""

from __future__ import annotations

import pytest

from smtpdebug.rules.judge import RuleSet
from smtpdebug.rules.smuggling import spelt
from smtpdebug.testing import dialogue

OPENING = """
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    {keywords}
    S: 250 SIZE 10000000
"""
TO_DATA = """
    C: MAIL FROM:<a@example.net>{parameters}
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
"""
END = """
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    C closes
"""


def found(text: str, *families: str, **options: bool) -> list[str]:
    ruleset = RuleSet(select=families or ("SD",))
    conversation = dialogue(text, joined_late=options.get("joined_late", False))
    findings = ruleset.judge(conversation)
    return [f.rule for f in (findings if findings is not None else conversation.findings)]


def message(body: str, keywords: str = "", parameters: str = "") -> str:
    return OPENING.format(keywords=keywords) + TO_DATA.format(parameters=parameters) + body + END


# The sequences of CVE-2023-51764 and the ones named with it, each between lines with proper ends; the true end follows.
@pytest.mark.parametrize(
    ("sequence", "name"),
    [
        (r"\n.\n", "<LF>.<LF>"),
        (r"\n.\r\n", "<LF>.<CR><LF>"),
        (r"\r.\r\n", "<CR>.<CR><LF>"),
        (r"\r\n.\n", "<CR><LF>.<LF>"),
    ],
)
def test_each_false_end_is_an_attempt_and_not_an_acceptance(sequence: str, name: str) -> None:
    rules = found(message(rf"    C! hello{sequence}more\r\n" + "\n    C: .\n"))
    assert "SD301" in rules, name
    assert "SD302" not in rules
    assert "SD303" not in rules


def test_a_quoted_dialogue_with_proper_line_ends_is_no_smuggling() -> None:
    body = "    C: ..\n    C: MAIL FROM:<x@example.org>\n    C: RCPT TO:<y@example.org>\n    C: .\n"
    assert found(message(body)) == []


def test_sequences_are_spelt_for_people() -> None:
    assert spelt(b"\r\n.\n") == "<CR><LF>.<LF>"


@pytest.mark.parametrize("parameters", [" BODY=8BITMIME", " body=8bitmime", " BODY=BINARYMIME", " SIZE=10 SMTPUTF8"])
def test_declared_eight_bit_data_is_in_order(parameters: str) -> None:
    body = r"    C! caf\xc3\xa9\r\n" + "\n    C: .\n"
    keywords = "S: 250-8BITMIME\n    S: 250-BINARYMIME\n    S: 250-SMTPUTF8"
    assert found(message(body, keywords, parameters)) == []


def test_eight_bit_data_is_one_finding_by_what_was_offered() -> None:
    body = r"    C! caf\xc3\xa9\r\n" + "\n    C: .\n"
    assert found(message(body)) == ["SD204"]
    assert found(message(body, "S: 250-8BITMIME")) == ["SD205"]


def test_data_with_missing_bytes_is_not_judged_by_its_length_or_end() -> None:
    body = "    C: Subject: x\n    -- gap 2000 --\n    C: half"
    text = OPENING.format(keywords="") + TO_DATA.format(parameters="") + body + "\n    C resets\n"
    assert "SD209" not in found(text)
    assert "SD206" not in found(text)


def test_a_capture_that_stops_in_the_data_says_nothing_of_its_end() -> None:
    text = OPENING.format(keywords="") + TO_DATA.format(parameters="") + "    C: half\n"
    assert found(text) == []


def test_rules_on_what_was_offered_are_silent_without_the_beginning() -> None:
    body = TO_DATA.format(parameters="") + r"    C! caf\xc3\xa9\r\n" + "\n    C: .\n" + END
    assert found(body, joined_late=True) == []


def test_the_limit_of_mail_grows_with_the_extensions_and_auth_has_its_own() -> None:
    # RFC 5321 4.5.3.1.4: 512 with CR LF; RFC 1870: SIZE adds 26. RFC 4954 section 4: 12288 in AUTH.
    frame = len("MAIL FROM:<a@example.net> ORCPT=") + 2
    at_limit = "x" * (512 + 26 - frame)
    text = OPENING.format(keywords="") + "C: MAIL FROM:<a@example.net> ORCPT={}\nS: 250 Ok\n"
    assert "SD109" not in found(text.format(at_limit))
    assert "SD109" in found(text.format(at_limit + "x"))
    auth = OPENING.format(keywords="S: 250-AUTH XOAUTH2") + "C: AUTH XOAUTH2 {}\nS: 235 Ok\n"
    assert "SD109" not in found(auth.format("A" * 2000))


def test_binary_noise_is_not_judged_octet_by_octet() -> None:
    text = "S: 220 mx.example.org ESMTP\n" + r"C! \x16\x03\x01\x02\x00\x01\x00\xfc\x00\r\n" + "\nS: 500 what\n"
    assert not {"SD102", "SD103", "SD104", "SD105"} & set(found(text))


def test_a_dot_that_a_binary_chunk_begins_with_is_in_order() -> None:
    text = (
        OPENING.format(keywords="S: 250-CHUNKING")
        + r"""
        C: MAIL FROM:<a@example.net>
        S: 250 Ok
        C: RCPT TO:<b@example.org>
        S: 250 Ok
        C! BDAT 9 LAST\r\n.hidden\r\n
        """
        + END
    )
    assert found(text) == []


def test_421_in_the_data_is_allowed_and_552_is_early() -> None:
    head = OPENING.format(keywords="") + TO_DATA.format(parameters="") + "    C: Subject: x\n"
    assert "SD210" not in found(head + "S: 421 4.3.2 going down\nS closes\n")
    assert "SD210" in found(head + "S: 552 5.3.4 too big\nS closes\n")
