"""Keys: ours never leave memory unasked, the machine's may not change."""

import copy
import pickle
import stat

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vastbench.errors import HostKeyChanged, UsageError
from vastbench.ssh.keys import HostKeyPin, RunKey


def host_key() -> paramiko.PKey:
    return RunKey(Ed25519PrivateKey.generate(), "host").pkey


def test_the_public_line_is_one_line_with_the_comment():
    kind, blob, comment = RunKey.generate("vb-7").public_line.split(" ")
    assert (kind, comment) == ("ssh-ed25519", "vb-7")
    assert blob.startswith("AAAA")


def test_each_key_is_new():
    assert RunKey.generate().public_line != RunKey.generate().public_line


@pytest.mark.parametrize("comment", ["", "two words", "line\nbreak", "nul\0"])
def test_a_comment_that_could_break_the_line_is_refused(comment):
    with pytest.raises(UsageError, match="comment"):
        RunKey.generate(comment)


def test_neither_repr_nor_pickle_nor_copy_gives_the_private_half(tmp_path):
    key = RunKey.generate()
    key.save(tmp_path / "key")
    secret = "".join((tmp_path / "key").read_text().splitlines()[1:-1])
    assert secret[:40] not in repr(key)
    assert secret[80:120] not in repr(key)
    for duplicate in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="never pickled"):
            duplicate(key)


def test_a_saved_key_is_private_and_is_read_by_paramiko(tmp_path):
    key = RunKey.generate()
    key.save(tmp_path / "key")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert paramiko.Ed25519Key.from_private_key_file(str(tmp_path / "key")) == key.pkey


def test_saving_never_replaces_a_file_nor_follows_a_link(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        with pytest.raises(UsageError, match="exists"):
            RunKey.generate().save(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_saving_into_a_missing_folder_says_so(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        RunKey.generate().save(tmp_path / "no" / "key")


def test_a_pinned_key_is_accepted_again_and_another_key_is_refused():
    pin, first, second = HostKeyPin(), host_key(), host_key()
    pin.check("h:1", first)
    pin.check("h:1", first)
    with pytest.raises(HostKeyChanged) as refused:
        pin.check("h:1", second)
    assert first.fingerprint in str(refused.value)
    assert second.fingerprint in str(refused.value)
    assert "destroy the instance" in refused.value.hint


def test_each_address_has_its_own_pin():
    pin, first, second = HostKeyPin(), host_key(), host_key()
    pin.check("h:1", first)
    pin.check("h:2", second)
    assert pin.fingerprint("h:1") == first.fingerprint
    assert pin.fingerprint("h:3") is None


def test_once_pinned_the_same_kind_of_key_is_asked_for():
    pin = HostKeyPin()
    assert pin.algorithms("h:1") == ()
    pin.check("h:1", host_key())
    assert pin.algorithms("h:1") == ("ssh-ed25519",)
    pin.check("h:2", paramiko.RSAKey.generate(2048))
    assert pin.algorithms("h:2") == ("rsa-sha2-512", "rsa-sha2-256")
