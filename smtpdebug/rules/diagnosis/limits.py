"""Diagnoses of limits: on rate, on number, on time."""

from __future__ import annotations

from collections.abc import Iterator

from smtpdebug.model.smtp import END_OF_DATA, Command, MailData, Reply
from smtpdebug.rules.diagnosis.facts import Facts, seconds
from smtpdebug.rules.diagnosis.registry import Confidence, Seen, Trigger, compared, diagnosis
from smtpdebug.rules.diagnosis.words import refusals, words
from smtpdebug.rules.memory import Earlier
from smtpdebug.rules.sighting import Sighting


@diagnosis("D52", name="throttled", on=Trigger.FAILED)
def throttled(facts: Facts) -> Iterator[Seen]:
    """The server limits how fast or how often this client may send.

    ## Evidence
    A temporary refusal whose text speaks of rate, quota, limit or too many connections or messages. The rate seen in
    this capture is printed with it.

    ## What to do
    Send more slowly, on fewer connections, and with growing waits between retries.

    ## Otherwise
    The limit is shared with other senders: of the same account, network or provider.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 450 4.7.1 Error: too much mail from 192.0.2.7
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 450 4.1.8 Sender address rejected: Domain not found
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    pattern = words(
        "throttl",
        "rate limit",
        "(?:sending|message|mail|connection) (?:rate|quota|limit)",
        "limit exceeded",
        "too (?:many|much) (?:\\w+ ){0,2}(?:mail|messages|connections|concurrent|simultaneous|sessions)",
        "too many (?:\\w+ ){0,2}(?:commands|attempts)",
        "too many recipients (?:from|today|per|this)",
        "(?:daily|hourly|message|sending|relay|maximum) (?:\\w+ )?quota exceeded",
        "unexpected volume",
        "too fast",
        "unusual rate",
        "Too many concurrent",
    )
    found = refusals(facts, "D52", pattern, codes={421, 432, 450, 451, 452, 454, 550, 554})
    if not found:
        return
    rate = _observed(facts)
    yield Seen(
        f"The server holds the client back: {found.quoted}{rate}.", Confidence.HIGH, found.evidence, found.advice
    )


def _observed(facts: Facts) -> str:
    """The sending rate that the conversation shows."""
    accepted = [
        e.reply.at.ts_ns
        for e in facts.conversation.exchanges
        if e.reply is not None
        and e.command is not None
        and e.command.verb in (END_OF_DATA, "BDAT")
        and e.reply.code == 250
    ]
    if len(accepted) > 1:
        took = max((accepted[-1] - accepted[0]) / 1e9, 0.001)
        return f"; this connection sent {len(accepted)} messages in {took:.1f} s"
    return ""


@compared("D52")
def throttled_after(sighting: Sighting, earlier: Earlier) -> Iterator[Seen]:
    """The sending rate that earlier conversations with the server show."""
    alone = sighting.throttled
    if alone is None:
        return
    rate = earlier.accepted_per_second(sighting.server, alone.evidence[0].ts_ns)
    if rate is not None:
        yield Seen(
            f"{alone.says} On earlier connections of this capture the server took {rate:.1f} messages a second.",
            Confidence(alone.confidence),
            tuple(alone.evidence),
            alone.advice,
        )


@diagnosis("D53", name="server-timed-out-on-client", on=Trigger.FAILED)
def timed_out(facts: Facts) -> Iterator[Seen]:
    """The server gave up waiting for the client.

    ## Evidence
    421 or 451 with 4.4.2 or a text that speaks of a time-out, after a silence of the client.

    ## What to do
    Find what held the client up in that silence (the frames are listed). If it was in the middle of mail data look for
    full-size segments that were sent again and again: an MTU problem.

    ## Otherwise
    The client's data were sent and lost on the way; the capture at the client shows them.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    -- 300s --
    S: 421 4.4.2 mx.example.org Error: timeout exceeded
    S closes
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 421 4.3.2 System shutting down
    S closes
    ```
    """
    pattern = words("time[d -]*out", "waiting for (?:data|command|input)", "idle")
    # A reply to a command was the server's turn: what timed out then is behind it.
    found = refusals(facts, "D53", pattern, verbs={""}, codes={421, 451}, enhanced={"4.4.2"})
    if not found:
        return
    said = found.first.began.ts_ns
    talk = (item for item in facts.conversation.timeline if isinstance(item, Command | MailData | Reply))
    before = max((item.at.ts_ns for item in talk if item is not found.first and item.at.ts_ns < said), default=0)
    quiet = seconds(found.first.began.ts_ns - before) if before else "some time"
    yield Seen(
        f"After {quiet} of silence the server gave up on the client: {found.quoted}.",
        Confidence.HIGH,
        found.evidence,
        found.advice,
    )
