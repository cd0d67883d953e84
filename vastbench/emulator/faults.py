"""What can be made to go wrong, by name.

``vastbench emulator --fault NAME[=probability]`` and ``Emulator(faults={NAME: probability})`` choose from :data:`FAULTS`. Each
fault draws from streams of its own: with the same seed it strikes the same calls and instances again, and what is drawn
without it stays what it was. Faults that a profile knows too are nothing but its parameter, raised (``parameter``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vastbench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from vastbench.emulator.draws import Stream
    from vastbench.emulator.profile import Profile


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: ``about`` in one line; ``each``: what it is drawn anew for; ``usual``: its probability when none is given;
    ``parameter``: the chance in the profile (``section.name``) that it stands for."""

    about: str
    each: str
    usual: float = 1.0
    parameter: str = ""


_CALL, _SEARCH, _CREATE, _LIST, _DESTROY, _INSTANCE = "call", "search", "create", "list", "destroy", "instance"
_CONNECTION, _COMMAND = "SSH connection", "SSH command"

FAULTS: dict[str, Fault] = {
    "429-text": Fault("429 as plain text", _CALL, 0.3),
    "429-detail": Fault("429 as JSON with detail", _CALL, 0.3),
    "429-json": Fault("429 as JSON with success, error and msg", _CALL, 0.3),
    "429-message": Fault("429 as JSON with message and code", _CALL, 0.3),
    "500": Fault("500, nothing done", _CALL, 0.3),
    "502": Fault("502 from a gateway, nothing done", _CALL, 0.3, "faults.bad_gateway"),
    "503": Fault("503, nothing done", _CALL, 0.3),
    "504": Fault("504 from a gateway; half of the time the call takes effect", _CALL, 0.3),
    "520": Fault("520 from a proxy in front; half of the time the call takes effect", _CALL, 0.3),
    "proxy-403": Fault("a proxy in front answers 403 with a page, nothing done", _CALL, 0.3),
    "slow-answers": Fault("the answer takes 5 to 25 s longer", _CALL, 0.3),
    "api-down": Fault("no call gets through for 60 s, from 10 to 60 s after the start on: 503, or dropped", "emulator"),
    "key-rejected-401": Fault("the account's key is rejected with 401", _CALL, 0.1),
    "key-rejected-404": Fault("the account's key is rejected with 404", _CALL, 0.1),
    "suspended": Fault("the account is suspended: 403 (the form is a guess: no source shows it)", _CALL, 0.1),
    "search-quota": Fault("the day's quota of offers searched is used up: 429", _SEARCH, 0.5),
    "credit-ends": Fault("the account lacks credit: 400", _CREATE, 0.5),
    "spend-limit": Fault("the account's spending limit is reached: 403", _CREATE, 0.5),
    "dropped-before-create": Fault("the connection is dropped, nothing rented", _CREATE, 0.5),
    "dropped-after-create": Fault(
        "the connection is dropped after the instance was made", _CREATE, 0.5, "faults.create_reply_lost"
    ),
    "error-with-contract": Fault("400 with new_contract: the instance exists", _CREATE, 0.5),
    "success-false": Fault("200 with success false, nothing rented", _CREATE, 0.5),
    "offer-gone-400": Fault("the offer is gone: 400", _CREATE, 0.5),
    "offer-gone-404": Fault("the offer is gone: 404", _CREATE, 0.5),
    "offer-gone-410": Fault("the offer is gone: 410", _CREATE, 0.5),
    "offer-gone-409": Fault("the offer is gone: 409, in words and without a code of its own", _CREATE, 0.5),
    "no-user-write": Fault("the key may not register SSH keys (403, or 400 for a team's); the proxy is dead", "emulator"),
    "restricted-key": Fault("the key may search and read instances alone (403)", "emulator"),
    "key-forgotten": Fault("the account has forgotten an SSH key when it is removed: 400", "key"),
    "price-rose": Fault("the instance costs 1.5 to 3 times what its offer showed", _INSTANCE),
    "list-delayed": Fault("the instance is listed 20 to 45 s late; GET by id knows it", _INSTANCE),
    "list-truncated": Fault("the list ends in the middle: broken JSON", _LIST, 0.3),
    "list-301": Fault("the list answers 301 with a body that parses and has no instances", _LIST, 0.3),
    "list-410": Fault("the list answers 410, as a retired endpoint does", _LIST, 0.3),
    "label-cut": Fault("the instance is shown with its label cut after 10 to 40 characters", _INSTANCE),
    "label-null": Fault("the instance is shown without its label", _INSTANCE),
    "by-id-forms": Fault("GET by id answers a list of one; for none null, an empty list, an empty object or 404", _INSTANCE),
    "status-null-long": Fault("the instance has no status for 60 to 240 s longer", _INSTANCE),
    "stuck-loading": Fault("the instance stays loading for good", _INSTANCE, parameter="boot.never"),
    "loading-long": Fault("the instance loads 60 to 240 s longer, and its message stands still", _INSTANCE),
    "status-flickers": Fault(
        "for 2 to 3.5 s of its boot it is shown as offline or exited, or with a daemon's error", _INSTANCE
    ),
    "pull-fails": Fault("the image cannot be pulled: loading for good, with the daemon's words", _INSTANCE),
    "error": Fault("error instead of running", _INSTANCE),
    "stopped": Fault("stopped instead of running", _INSTANCE),
    "stopped-while-loading": Fault("the instance is stopped while it loads: outbid or never started", _INSTANCE),
    "exited": Fault("the container exits instead of running", _INSTANCE, parameter="boot.exits"),
    "unknown": Fault("the host's heartbeat stops: unknown instead of running", _INSTANCE),
    "offline": Fault("the host disconnects: offline instead of running", _INSTANCE),
    "oci-error": Fault("the container cannot be created", _INSTANCE, parameter="boot.oci_error"),
    "vanishes": Fault("the instance is gone 2 to 20 s after it began to run, and nobody destroyed it", _INSTANCE),
    "endpoints-late": Fault("it runs 5 to 20 s before any SSH address is named", _INSTANCE),
    "endpoints-change": Fault("the SSH addresses lead nowhere until others are named, 5 to 20 s after it runs", _INSTANCE),
    "direct-late": Fault("the proxy is dead, and the direct address is named 5 to 20 s after it runs", _INSTANCE),
    "onstart-missing": Fault("the start script is not run and not shown", _INSTANCE),
    "bare-image": Fault("the image has neither curl, wget nor python3; apt-get fetches one at its third try", _INSTANCE),
    "chatty-image": Fault("the image's start-up files print lines at every login", _INSTANCE),
    "disk-full": Fault("/workspace, /tmp and /var/tmp are full; needs namespaces (in a plain folder nothing is)", _INSTANCE),
    "forgets-files": Fault("what one SSH connection wrote to /workspace is gone when the next one logs in", _INSTANCE),
    "clock-skewed": Fault("its clock runs twice too fast; needs namespaces (in a plain folder it is the host's)", _INSTANCE),
    "port-before-sshd": Fault("ports accept 5 to 20 s before SSH answers there: closed at once, or silent", _INSTANCE),
    "banner-late": Fault("the SSH server names itself 1.5 to 3.5 s after the connection", _CONNECTION),
    "banner-garbage": Fault("something else than SSH answers, then hangs up", _CONNECTION, 0.5),
    "key-late": Fault("SSH keys arrive 20 to 60 s late", _INSTANCE),
    "key-never": Fault("SSH keys never arrive", _INSTANCE, parameter="ssh.auth_never"),
    "host-key-changed": Fault("each port's first connection is dropped at login; later ones show another host key", _INSTANCE),
    "reset-mid-command": Fault("the connection is reset before the command's exit status", _COMMAND, 0.3),
    "half-open": Fault("the connection stands, and swallows all that comes from this command on", _COMMAND, 0.3),
    "destroy-ignored": Fault("destroy is acknowledged and nothing happens (=1: no destroy ever works)", _DESTROY, 0.5),
    "destroy-504": Fault("destroy answers 504; half of the time it takes effect", _DESTROY),
    "gone-late": Fault("a destroyed instance is still shown for 20 to 60 s", _INSTANCE),
    "charges-late": Fault("charges appear 10 to 60 minutes late", _INSTANCE),
}
"""Every fault that there is."""

_ONCE = ("search-quota", "credit-ends", "spend-limit", "dropped-after-create", "destroy-ignored")
REHEARSED: dict[str, float] = {
    name: 1.0 if name in _ONCE else FAULTS[name].usual
    for name in (
        *("520", "proxy-403", "key-rejected-401", "suspended", *_ONCE, "offer-gone-409", "no-user-write", "key-forgotten"),
        *("price-rose", "label-cut", "label-null", "by-id-forms", "stuck-loading", "loading-long", "status-flickers"),
        *("pull-fails", "error", "stopped", "stopped-while-loading", "exited", "unknown", "offline", "oci-error", "vanishes"),
        *("endpoints-late", "endpoints-change", "direct-late", "onstart-missing", "bare-image", "chatty-image", "key-late"),
        "key-never",
    )
}
"""What a first live run may meet: ``vastbench rehearse`` lets each of these strike, with that probability."""


class Faults:
    """The chosen faults of one emulator, and their draws. ``struck``: the names of those that have struck."""

    def __init__(self, chosen: Mapping[str, float], seed: int) -> None:
        """Take names and probabilities (of :func:`checked`)."""
        self._chosen = dict(chosen)
        self._seed = seed
        self._streams: dict[tuple[object, ...], Stream] = {}
        self.struck: set[str] = set()

    def strikes(self, name: str, *of: object) -> bool:
        """Whether the fault strikes this time; ``of`` names what it strikes, such as a call or an instance's number."""
        probability = self._chosen.get(name)
        strikes = probability is not None and self.stream(name, *of).happens(probability)
        if strikes:
            self.struck.add(name)
        return strikes

    def stream(self, name: str, *of: object) -> Stream:
        """The fault's draws about ``of``, in order."""
        from vastbench.emulator.draws import Stream

        if (name, *of) not in self._streams:
            self._streams[name, *of] = Stream(self._seed, f"fault:{name}", *of)
        return self._streams[name, *of]

    def drawn(self, name: str, low: float, high: float, *of: object) -> float:
        """A number between ``low`` and ``high`` when the fault strikes ``of``, otherwise 0."""
        return self.stream(name, *of).between(low, high) if self.strikes(name, *of) else 0.0


def checked(chosen: Mapping[str, float | None]) -> dict[str, float]:
    """The probabilities by name, the usual one in place of None. Raises UsageError for a name or a probability that is none."""
    for name, probability in chosen.items():
        if name not in FAULTS:
            hint = f"{did_you_mean(name, FAULTS)}`vastbench emulator --fault list` shows all."
            raise UsageError(f"There is no fault {name!r}.", hint=hint)
        if probability is not None and not (isinstance(probability, (int, float)) and 0 <= probability <= 1):
            raise UsageError(f"The probability of the fault {name} is {probability!r}.", hint="Give one from 0 to 1.")
    return {name: FAULTS[name].usual if p is None else float(p) for name, p in chosen.items()}


def parsed(texts: Iterable[str]) -> dict[str, float]:
    """The faults that ``NAME`` or ``NAME=probability`` say; the last of a name counts. Raises UsageError."""
    chosen: dict[str, float | None] = {}
    for text in texts:
        name, equals, number = text.partition("=")
        try:
            chosen[name.strip()] = float(number) if equals else None
        except ValueError:
            raise UsageError(f"The probability of the fault {name} is {number!r}.", hint="Give a number from 0 to 1.") from None
    return checked(chosen)


def described() -> str:
    """All faults in lines: name, usual probability and what for, description."""
    return "\n".join(f"  {name:<22} {one.usual:g} per {one.each}: {one.about}" for name, one in FAULTS.items())


def applied(profile: Profile, chosen: Mapping[str, float]) -> Profile:
    """``profile`` with the chances that the chosen faults stand for."""
    for name, probability in chosen.items():
        section, _, parameter = FAULTS[name].parameter.partition(".")
        if parameter:
            table = getattr(profile, section)
            chance = getattr(table, parameter).model_copy(update={"p": probability})
            profile = profile.model_copy(update={section: table.model_copy(update={parameter: chance})})
    return profile
