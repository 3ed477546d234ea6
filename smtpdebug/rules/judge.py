"""Running the rules: a set chosen once, dispatch by verb and reply class, findings in order of place.

The same conversation gives the same findings whether it is judged whole (``RuleSet.judge``) or as it goes (``Judge``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from smtpdebug.model.findings import Finding, Severity
from smtpdebug.model.smtp import AFTER_GAP, Command, Conversation, Exchange
from smtpdebug.model.streams import Stream
from smtpdebug.rules.memory import Earlier
from smtpdebug.rules.registry import (
    BARE,
    ENCRYPTED,
    ENDED_BY_SERVER,
    LONG_ARGUMENT,
    MULTILINE,
    NO_STATUS_CODE,
    ODD_NAME,
    ODD_PATH,
    ODD_TRANSPORT,
    OFF_TABLE,
    PIPELINED,
    SLOW,
    STATUS_DIFFERS,
    UNASKED,
    UNFINISHED,
    UNKNOWN_VERB,
    WITH_ARGUMENT,
    WITH_PARAMETERS,
    WITH_PROXY,
    WITH_TLS,
    Check,
    Indeterminate,
    Rule,
    Said,
    all_rules,
    matching,
)
from smtpdebug.rules.scope import concerns_mail
from smtpdebug.rules.sighting import Sighting
from smtpdebug.rules.state import HELLOS, State, begin
from smtpdebug.rules.syntax import is_plain, is_plain_name
from smtpdebug.rules.table import EXPECTED, KNOWN_VERBS

__all__ = ["Judge", "RuleSet", "place"]

_Step: TypeAlias = tuple[Check, Rule, bool]
"""Function, rule, whether it takes the state."""
_Key: TypeAlias = tuple[int, str, int, int]
"""Reply class (0 for no reply, 1..5 the first digit, 6 for anything else), verb, oddities, situation."""
_PLANS: Final = 4096
"""Cases remembered: hostile traffic has no end of them."""
_PLAIN_PARAMETERS: Final = re.compile(r"> SIZE=\d{1,18}( BODY=(?:8BITMIME|7BIT))?\Z", re.IGNORECASE)
_SLOW_NS: Final = 1_000_000_000
_LOCAL_PART: Final = 64
_NEITHER: Final = [None, None]
_ZEROS: Final = [0, 0]
_SILENT: Final = 2048
"""Replies remembered, of at most a few hundred octets each."""


class RuleSet:
    """The rules of a run and the severities they have in it.

    Args:
        select: selectors (see ``registry.matching``); empty means all stable rules.
        ignore: selectors taken away again.
        preview: also take rules of status ``preview`` (one selected by its full id is always taken).
        severities: selector -> severity in this run; later ones win.

    Raises:
        UnknownRuleError: a selector that names no rule.
    """

    def __init__(
        self,
        select: Iterable[str] = (),
        ignore: Iterable[str] = (),
        *,
        preview: bool = False,
        severities: Mapping[str, Severity | str] | None = None,
    ) -> None:
        self.rules = _chosen(tuple(select), tuple(ignore), preview)
        self._severity = {r.id: r.severity for r in self.rules}
        for selector, severity in (severities or {}).items():
            for r in matching(selector):
                if r.id in self._severity:
                    self._severity[r.id] = Severity(severity)
        self._exchange_rules = [r for r in self.rules if r.on == "exchange"]
        self._conversation_rules = [r for r in self.rules if r.on == "conversation"]
        self._comparisons = [r for r in self.rules if r.on == "sighting"]
        self._verbs = {v for r in self._exchange_rules for v in r.verbs or ()} | {UNASKED}
        self._plans: dict[_Key, tuple[tuple[_Step, ...], tuple[_Step, ...]]] = {}
        self._end_plans: dict[int, tuple[_Step, ...]] = {}
        self._silent: set[tuple[_Key, tuple[bytes, ...]]] = set()
        """Replies on which the pure rules had nothing to say: a server's EHLO reply is the same every time."""

    def severity(self, rule_id: str) -> Severity:
        """The severity the rule has in this run."""
        return self._severity[rule_id]

    def judge(self, conversation: Conversation) -> list[Finding]:
        """All findings of a finished conversation taken alone, by place; changes nothing."""
        findings = Judge(self, conversation).close()
        if len(findings) > 1:
            findings.sort(key=place)
        return findings

    def judge_exchange(self, state: State, exchange: Exchange) -> list[Finding]:
        """The findings of one exchange, given the state before it (``state.enter`` already called)."""
        command, reply = exchange.command, exchange.reply
        digit = 0 if reply is None else reply.code // 100
        if digit < 0 or digit > 5 or (digit == 0 and reply is not None):
            digit = 6
        verb = UNASKED if command is None else command.verb
        odd = 0 if command is None else command.oddities
        if reply is not None:
            odd |= reply.oddities
        if exchange.data is not None:
            odd |= exchange.data.oddities
        key = (digit, verb if verb in self._verbs else "", odd, _situation(state, exchange, verb))
        plans = self._plans.get(key)
        if plans is None:
            plans = self._plan(key)
        plan, pure = plans
        findings: list[Finding] = []
        if pure and reply is not None:
            known = (key, tuple(reply.lines))
            if known not in self._silent:
                findings += [self._finding(rule, said) for check, rule, _ in pure for said in check(exchange)]
                if not findings and len(self._silent) < _SILENT:
                    self._silent.add(known)
        for check, rule, takes_state in plan:
            for said in check(exchange, state) if takes_state else check(exchange):
                findings.append(self._finding(rule, said))  # a generator a rule would cost more
        for finding in findings:
            finding.exchange = state.index
        if len(findings) > 1:
            findings.sort(key=place)
        return findings

    def judge_end(self, conversation: Conversation, state: State) -> list[Finding]:
        """The findings of the rules on whole conversations."""
        findings: list[Finding] = []
        if not concerns_mail(conversation):
            return findings
        situation = _end_situation(conversation)
        plan = self._end_plans.get(situation)
        if plan is None:
            asked = [r for r in self._conversation_rules if not r.when or situation & r.when]
            plan = self._end_plans[situation] = tuple((r.check, r, bool(r.takes)) for r in asked)
        for check, rule, takes_state in plan:
            for said in check(conversation, state) if takes_state else check(conversation):
                findings.append(self._finding(rule, said))  # noqa: PERF401  # as above
        return findings

    def compare(self, seen: Sighting, earlier: Earlier) -> list[Finding]:
        """The findings that a conversation gives beside earlier ones; ``earlier`` is asked and not changed."""
        return [self._finding(rule, said) for rule in self._comparisons for said in rule.check(seen, earlier)]

    def _plan(self, key: _Key) -> tuple[tuple[_Step, ...], tuple[_Step, ...]]:
        """The rules to ask in a given case, and the pure ones; remembered: few cases make up nearly all traffic."""
        digit, verb, odd, situation = key
        rules = [
            r
            for r in self._exchange_rules
            if (r.verbs is None or verb in r.verbs)
            and (r.replies is None or digit in r.replies)
            and (not r.oddities or odd & r.oddities)
            and (not r.when or situation & r.when)
        ]
        plans = (
            tuple((r.check, r, "state" in r.takes) for r in rules if not r.pure or not digit),
            tuple((r.check, r, False) for r in rules if r.pure and digit),
        )
        if len(self._plans) < _PLANS:
            self._plans[key] = plans
        return plans

    def _finding(self, rule: Rule, said: Said) -> Finding:
        at, message = said
        indeterminate = message.__class__ is Indeterminate
        severity = Severity.NOTE if indeterminate else self._severity[rule.id]
        return Finding(rule.id, severity, str(message), at, rule.security, indeterminate)


class Judge:
    """One conversation judged as it goes.

    ``exchange`` takes the exchanges as their replies arrive; ``close`` the end of the conversation. All findings
    together are those of ``RuleSet.judge``.
    """

    def __init__(self, ruleset: RuleSet, conversation: Conversation) -> None:
        self._ruleset = ruleset
        self._conversation = conversation
        self.state = begin(conversation)

    def exchange(self, exchange: Exchange) -> list[Finding]:
        """An exchange whose reply arrived: judges it, and the ones before it that will get no reply any more.

        Replies come in the order of the commands, so that what stands before an answered command and has no reply
        will not get one. A reply nobody asked for proves nothing of the kind: then only what is complete is judged.
        """
        exchanges = self._conversation.exchanges
        state, findings = self.state, []
        end = next((i + 1 for i in range(len(exchanges) - 1, state.index - 1, -1) if exchanges[i] is exchange), 0)
        while state.index < end:
            current = exchanges[state.index]
            if current.reply is None and exchange.command is None:
                break
            findings += self._step(current)
        return findings

    def close(self) -> list[Finding]:
        """The conversation is over: the rest of its exchanges, then the rules on the whole."""
        findings: list[Finding] = []
        exchanges, state = self._conversation.exchanges, self.state
        judge_exchange, enter, advance = self._ruleset.judge_exchange, state.enter, state.advance
        # Without losses nothing happens between two exchanges of a conversation in clear.
        calm = not state.note_losses() and not state.encrypted
        for exchange in exchanges[state.index :] if state.index else exchanges:
            command = exchange.command
            if not calm or exchange.encrypted or (command is not None and command.oddities & AFTER_GAP):
                calm = False
                enter(exchange)
            found = judge_exchange(state, exchange)
            if found:
                findings += found
            advance(exchange)
        return findings + self._ruleset.judge_end(self._conversation, state)

    def _step(self, exchange: Exchange) -> list[Finding]:
        state = self.state
        state.enter(exchange)
        findings = self._ruleset.judge_exchange(state, exchange)
        state.advance(exchange)
        return findings


def _chosen(select: tuple[str, ...], ignore: tuple[str, ...], preview: bool) -> list[Rule]:
    named = {s.strip().upper() for s in select}
    chosen = {r.id for s in select or ("all",) for r in matching(s)}
    chosen -= {r.id for s in ignore for r in matching(s)}
    return [
        r
        for r in all_rules()
        if r.id in chosen
        and r.status != "removed"
        and (r.status == "stable" or preview or r.id in named or r.name.upper() in named)
    ]


def _situation(state: State, exchange: Exchange, verb: str) -> int:
    command, reply, wait = exchange.command, exchange.reply, exchange.wait_ns
    found = state.situation()
    if exchange.encrypted:
        found |= ENCRYPTED
    if command is not None:
        found |= _command_situation(state, command, verb)
    row = EXPECTED.get(verb)
    if row is None and verb not in KNOWN_VERBS:
        found |= UNKNOWN_VERB
    if reply is None:
        return found if wait is None or wait < _SLOW_NS else found | SLOW
    if wait is not None and (wait >= _SLOW_NS or wait + reply.at.ts_ns - reply.began.ts_ns >= _SLOW_NS):
        found |= SLOW
    code = reply.code
    if row is not None and code not in row:
        found |= OFF_TABLE
    enhanced = reply.enhanced
    if enhanced is None:
        if "ENHANCEDSTATUSCODES" in state.extensions:
            found |= NO_STATUS_CODE
    elif ord(enhanced[0]) - 48 != code // 100:
        found |= STATUS_DIFFERS
    lines = reply.lines
    if len(lines) != 1:
        found |= MULTILINE if lines else BARE
    if lines and len(lines[-1]) < 5:
        found |= BARE
    return found


def _command_situation(state: State, command: Command, verb: str) -> int:
    argument = command.argument
    found = PIPELINED if command.outstanding else 0
    if argument:
        found |= WITH_ARGUMENT
        if verb == "MAIL" or verb == "RCPT":
            found |= _path_situation(state, argument, "FROM" if verb == "MAIL" else "TO")
        elif verb in HELLOS and not is_plain_name(argument):
            found |= ODD_NAME
    elif verb == "MAIL" or verb == "RCPT":
        found |= ODD_PATH | WITH_PARAMETERS
    elif verb in HELLOS:
        found |= ODD_NAME
    before = state.previous
    said = None if before is None else before.reply
    if said is not None and command.began.ts_ns - said.at.ts_ns >= _SLOW_NS:
        found |= SLOW
    return found


def _path_situation(state: State, argument: str, keyword: str) -> int:
    found = LONG_ARGUMENT if len(argument) > _LOCAL_PART else 0
    if not is_plain(argument, keyword):
        return found | ODD_PATH | WITH_PARAMETERS
    if " " in argument and not _plain_parameters(argument, state.extensions):
        found |= WITH_PARAMETERS
    return found


def _plain_parameters(argument: str, extensions: dict[str, str]) -> bool:
    """Nothing but SIZE and BODY, well-formed and offered: what nearly every client sends with MAIL."""
    match = _PLAIN_PARAMETERS.search(argument)
    return match is not None and "SIZE" in extensions and (match[1] is None or "8BITMIME" in extensions)


def _end_situation(conversation: Conversation) -> int:
    stream, exchanges = conversation.stream, conversation.exchanges
    found = WITH_TLS if conversation.tls is not None else 0
    if found or stream.closed_by == "server-fin" or stream.closed_by == "server-rst":
        found |= ENDED_BY_SERVER
    if conversation.proxy is not None:
        found |= WITH_PROXY
    last = exchanges[-1] if exchanges else None
    if last is None or last.reply is None or last.command is None or last.command.verb != "QUIT":
        found |= UNFINISHED
    if not stream.complete or stream.refused_by is not None or 0 in stream.bytes or _disturbed(stream):
        found |= ODD_TRANSPORT
    return found


def _disturbed(stream: Stream) -> bool:
    """Whether TCP did anything but carry the bytes and close."""
    if stream.rst_ns != _NEITHER or stream.syn_retransmissions or stream.syn_ack_retransmissions or stream.reused:
        return True
    return (
        stream.missing != _ZEROS
        or stream.conflicts != _ZEROS
        or stream.zero_windows != _ZEROS
        or stream.retransmissions != _ZEROS
        or stream.keep_alives != _ZEROS
    )


def place(finding: Finding) -> tuple[int, int, str]:
    """The order of findings: by time, frame and rule."""
    return finding.at.ts_ns, finding.at.frame, finding.rule
