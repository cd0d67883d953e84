"""What a create request asks for, checked as strictly as the marketplace checks it."""

import shlex
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from vastbench.emulator.replies import Refusal

_SSH = ("ssh", "jupyter")
_MAX_SCRIPT = 4096
_MAX_ENV = 32_768


def _environment(value: Any) -> Any:
    """Docker options in one string, or an object, as pairs; null is empty."""
    if value is None:
        return {}
    if not isinstance(value, str):
        return value
    pairs: dict[str, str] = {}
    words = iter(shlex.split(value))
    for word in words:
        if word in ("-e", "--env"):
            name, _, text = next(words, "").partition("=")
            pairs[name] = text
        elif word in ("-p", "-h", "-v"):
            pairs[f"{word} {next(words, '')}"] = "1"
    return pairs


def _sized(pairs: dict[str, str]) -> dict[str, str]:
    if any(len(text) > 256 for pair in pairs.items() for text in pair):
        raise ValueError("env keys and values may have 256 characters each")
    if sum(len(key) + len(value) for key, value in pairs.items()) > _MAX_ENV:
        raise ValueError(f"env may have {_MAX_ENV} characters in total")
    return pairs


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Environment = Annotated[
    dict[str, Annotated[str, BeforeValidator(_text)]], BeforeValidator(_environment), AfterValidator(_sized)
]


class Order(BaseModel):
    """The body of a create request. ``price``: a bid in $/h, null for on-demand; ``disk``: GB."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    client_id: str | None = None
    image: str | None = Field(default=None, max_length=1024)
    env: Environment = Field(default_factory=dict)
    price: float | None = Field(default=None, ge=0.001, le=128)
    disk: float | None = Field(default=8.0, ge=8)
    label: str | None = Field(default=None, max_length=256)
    extra: str | None = None
    onstart: str | None = None
    image_login: str | None = None
    python_utf8: bool | None = None
    lang_utf8: bool | None = None
    use_jupyter_lab: bool | None = None
    jupyter_dir: str | None = None
    force: bool | None = None
    cancel_unavail: bool | None = None
    template_hash_id: str | None = None
    user: str | None = None
    runtype: str | None = None
    args: list[str] | None = None
    args_str: str | None = None
    target_state: str | None = Field(default=None, pattern="^(running|stopped)$")
    vm: bool | None = None
    volume_info: dict[str, Any] | None = None
    ssh_key: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> "Order":
        if not (self.image or "").strip() and self.template_hash_id is None:
            raise ValueError("image is required")
        script = len(self.onstart or "") + len(self.args_str or "") + sum(len(arg) for arg in self.args or [])
        if script > _MAX_SCRIPT:
            raise ValueError(f"args and onstart may have {_MAX_SCRIPT} characters together, not {script}")
        return self

    @property
    def run_types(self) -> list[str]:
        """The words of ``runtype``; plain SSH when none is given."""
        return (self.runtype or "ssh").split()

    @property
    def ssh(self) -> bool:
        """Whether the instance gets an SSH server: every run type but ``args``."""
        return any(word.startswith(_SSH) for word in self.run_types)

    @property
    def direct(self) -> bool:
        """Whether the direct endpoint was asked for, in either spelling (``ssh_direc``, ``ssh_direct``)."""
        return any("_direc" in word for word in self.run_types)

    @property
    def disk_gb(self) -> float:
        """The disk in GB."""
        return 8.0 if self.disk is None else self.disk

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables among ``env``, without Docker's options."""
        return {key: value for key, value in self.env.items() if not key.startswith("-")}

    @property
    def ports(self) -> list[str]:
        """The container ports opened with ``-p host:container``, as ``8080/tcp``."""
        opened = [key[3:].rpartition(":")[2].strip() for key in self.env if key.startswith("-p ")]
        return [port if "/" in port else f"{port}/tcp" for port in opened]


def order(body: dict[str, Any]) -> Order:
    """The order in a create request's body. Raises Refusal (400) naming the first key that is wrong."""
    try:
        return Order.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "request"
        code = "invalid_price" if where == "price" else "invalid_args"
        raise Refusal(400, code, f"{where}: {first['msg']}") from error
