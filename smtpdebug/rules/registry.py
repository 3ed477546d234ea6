"""What a rule is, and the list of all rules: writing a decorated function is all it takes to add one.

A rule looks at one noun and yields ``(where, what)`` for each thing it has to say::

    @rule(id="SR103", on=Exchange, severity=Severity.WARNING, since="0.1", refs=("RFC 5321 §4.3.2",))
    def reply_code_not_listed(exchange: Exchange, state: State) -> Iterator[Said]:
        '''The page of the rule ...'''

A rule on ``Exchange`` is given the exchange and the ``State`` *before* it. A rule on ``Conversation`` is given the
conversation when it is over, and ``state`` (the model at its end) if it names it. A rule on ``Sighting`` compares: it
is given what is kept of a conversation for that purpose, and ``earlier`` (``memory.Earlier``), what is remembered of
those that began before it.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias

import msgspec

from smtpdebug.errors import SmtpDebugError
from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import Conversation, Exchange
from smtpdebug.model.streams import Location
from smtpdebug.rules.sighting import Sighting

Said: TypeAlias = tuple[Location, str]
"""Where and what; the text may be ``Indeterminate``."""
Check: TypeAlias = Callable[..., Iterator[Said]]

FAMILIES: Final = {
    "SR": "replies",
    "SC": "commands",
    "SD": "content",
    "ST": "transport",
    "SL": "timing",
}
"""Prefix of the id -> name of the family."""

UNASKED: Final = "(unasked)"
"""In ``verbs``: exchanges without a command."""

# Situations of an exchange, for the ``when`` of rules: the bits lie above those of the oddities (``model.smtp``).
PIPELINED: Final = 1 << 20
"""The command did not wait for an earlier reply."""
ENCRYPTED: Final = 1 << 21
MULTILINE: Final = 1 << 22
"""The reply has several lines."""
UNKNOWN_VERB: Final = 1 << 23
"""A command that ``table.KNOWN_VERBS`` does not have."""
OFF_TABLE: Final = 1 << 24
"""The reply's code is not in the command's row of ``table.EXPECTED``."""
REFUSED_GREETING: Final = 1 << 25
"""The greeting was not 220."""
CLOSING: Final = 1 << 26
"""The server said 421 before."""
CHUNKED: Final = 1 << 27
"""BDAT chunks came before in this transaction, or ended it."""
STARTED_TLS: Final = 1 << 28
"""STARTTLS was agreed and nothing inside TLS has come yet."""
REFUSED_DATA: Final = 1 << 29
"""DATA of this transaction was refused."""
NO_STATUS_CODE: Final = 1 << 30
"""The reply has no enhanced status code although EHLO offered them."""
BARE: Final = 1 << 31
"""The reply's last line has no text."""
STATUS_DIFFERS: Final = 1 << 32
"""The enhanced status code is of another class than the reply code."""
ODD_PATH: Final = 1 << 33
"""MAIL or RCPT whose path is not plainly ``<local@domain>``."""
WITH_PARAMETERS: Final = 1 << 34
"""MAIL or RCPT with something after the path."""
NO_TRANSACTION: Final = 1 << 35
IN_TRANSACTION: Final = 1 << 36
"""MAIL was accepted and the transaction has not ended."""
NO_RECIPIENT: Final = 1 << 37
"""No RCPT of this transaction was accepted."""
BEFORE_HELLO: Final = 1 << 38
"""No EHLO, HELO or LHLO was sent yet, since the connection or TLS began."""
WITH_ARGUMENT: Final = 1 << 39
"""The command has an argument."""
ODD_NAME: Final = 1 << 42
"""EHLO or HELO whose name is not plainly a fully qualified domain."""
SLOW: Final = 1 << 43
"""The reply took a second or more to its end, or the client left the server waiting as long."""
LIMITED: Final = 1 << 44
"""EHLO offered LIMITS."""
LONG_ARGUMENT: Final = 1 << 48
"""MAIL or RCPT with an argument longer than a local-part may be (64 octets)."""
REFUSED_TLS: Final = 1 << 49
"""STARTTLS was refused before."""
# Situations of a conversation.
WITH_TLS: Final = 1 << 40
"""There was TLS, opened or not."""
ENDED_BY_SERVER: Final = 1 << 41
"""The server closed first, as far as TCP shows, or TLS may say otherwise."""
UNFINISHED: Final = 1 << 45
"""The last exchange is not a QUIT that was answered."""
ODD_TRANSPORT: Final = 1 << 46
"""TCP repeated, refused, reset or stalled something, bytes are missing, one side is silent, or the beginning is."""
WITH_PROXY: Final = 1 << 47
"""A PROXY header came first."""

STATUSES: Final = ("stable", "preview", "removed")


class Indeterminate(str):
    """A message that says: this cannot be decided from the capture, and silence would mislead."""

    __slots__ = ()


class UnknownRuleError(SmtpDebugError):
    """A selector that names no rule."""


class Rule(msgspec.Struct, frozen=True, gc=False):
    """One rule: its data and its function."""

    id: str
    name: str
    """Kebab-case, from the function's name: the pattern, not the remedy."""
    on: str
    """``exchange``, ``conversation`` or ``sighting``."""
    severity: Severity
    since: str
    refs: tuple[str, ...]
    check: Check
    takes: tuple[str, ...]
    """Parameters after the first: ``state``; ``earlier``."""
    verbs: frozenset[str] | None = None
    """Exchange rules: only for these verbs (``None``: for all)."""
    oddities: int = 0
    """Exchange rules: only where the command, the reply or the mail data has one of these (0: always)."""
    when: int = 0
    """Only in one of these situations (0: always)."""
    pure: bool = False
    """Exchange rules: the outcome depends on verb, reply lines and encryption alone, so that it can be remembered."""
    replies: frozenset[int] | None = None
    """Exchange rules: only where the reply's first digit is one of these; 0 stands for no reply (``None``: always)."""
    security: bool = False
    status: str = "stable"

    @property
    def doc(self) -> str:
        """The docstring, dedented."""
        return inspect.getdoc(self.check) or ""

    @property
    def family(self) -> str:
        """``replies``, ``commands``, ``content``, ``transport`` or ``timing``."""
        return FAMILIES[self.id[:2]]

    @property
    def summary(self) -> str:
        """The first paragraph of the page, on one line."""
        return " ".join(self.doc.split("\n\n", 1)[0].split())


_rules: dict[str, Rule] = {}
_loaded = False


def rule(
    *,
    id: str,  # the word people use for it
    on: type[Exchange] | type[Conversation] | type[Sighting],
    severity: Severity,
    since: str,
    refs: tuple[str, ...],
    verbs: Iterable[str] | None = None,
    oddities: int = 0,
    when: int = 0,
    replies: Iterable[int] | None = None,
    pure: bool = False,
    security: bool = False,
    status: str = "stable",
) -> Callable[[Check], Check]:
    """Register the decorated generator function as a rule.

    ``verbs``, ``oddities``, ``when`` and ``replies`` are prefilters: the function is not called at all elsewhere, which
    is what keeps a clean conversation cheap; ``pure`` rules are not asked again about a reply they were silent on. Use
    ``UNASKED`` in ``verbs`` for replies nobody asked for.
    """

    def register(check: Check) -> Check:
        if id in _rules and _rules[id].check.__qualname__ != check.__qualname__:
            raise ValueError(f"rule id {id} is taken by {_rules[id].name}")
        if len(id) != 5 or id[:2] not in FAMILIES or not id[2:].isdigit():
            raise ValueError(f"{id!r} is not a rule id: a family prefix and three digits")
        if status not in STATUSES:
            raise ValueError(f"{status!r} is not one of {STATUSES}")
        takes = check.__code__.co_varnames[1 : check.__code__.co_argcount]
        if pure and takes:
            raise ValueError(f"rule {id}: a pure rule looks at the exchange alone")
        if takes != ("earlier",) if on is Sighting else not set(takes) <= {"state"}:
            raise ValueError(f"rule {id}: unknown parameters {takes}")
        _rules[id] = Rule(
            id=id,
            name=check.__name__.replace("_", "-"),
            on=on.__name__.lower(),
            severity=severity,
            since=since,
            refs=refs,
            check=check,
            takes=takes,
            verbs=None if verbs is None else frozenset(verbs),
            oddities=oddities,
            when=when,
            pure=pure,
            replies=None if replies is None else frozenset(replies),
            security=security,
            status=status,
        )
        return check

    return register


def load() -> None:
    """Import every module of this package, so that all rules are registered; the order does not matter."""
    global _loaded
    if _loaded:
        return
    package: Any = importlib.import_module("smtpdebug.rules")
    for module in sorted(
        m.name for m in pkgutil.iter_modules(package.__path__) if not m.ispkg and m.name != "verdicts"
    ):
        importlib.import_module(f"smtpdebug.rules.{module}")
    _loaded = True


def all_rules() -> list[Rule]:
    """Every rule, removed ones too, by id."""
    load()
    return [_rules[key] for key in sorted(_rules)]


def get(selector: str) -> Rule:
    """The rule with this id or name.

    Raises:
        UnknownRuleError: there is none.
    """
    load()
    found = _rules.get(selector.upper())
    if found is None:
        found = next((r for r in _rules.values() if r.name == selector.lower()), None)
    if found is None:
        raise UnknownRuleError(f"there is no rule {selector!r}; `smtpdebug rule --list` names them all")
    return found


def matching(selector: str) -> list[Rule]:
    """The rules that a selector means: ``all``, ``security``, an id, a prefix of one, a family or a rule's name.

    Raises:
        UnknownRuleError: none at all.
    """
    rules = all_rules()
    wanted, prefix = selector.strip().lower(), selector.strip().upper()
    if wanted == "all":
        return rules
    if wanted == "security":
        return [r for r in rules if r.security]
    if wanted in FAMILIES.values():
        return [r for r in rules if r.family == wanted]
    found = [r for r in rules if r.name == wanted or (prefix and r.id.startswith(prefix))]
    if not found:
        raise UnknownRuleError(
            f"{selector!r} selects no rule: give an id (SR103), a prefix (SR1), "
            f"a family ({', '.join(FAMILIES.values())}), a rule's name, 'security' or 'all'"
        )
    return found
