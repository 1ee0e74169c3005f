"""What a keeper opens is the plain integer sum, bit for bit; and nothing that comes from elsewhere reaches TenSEAL."""

from __future__ import annotations

import numpy as np
import pytest

from fl_core.encrypted_sum import ciphertexts, keys
from fl_core.encrypted_sum.ciphertexts import PRIME, SLOTS
from fl_core.encrypted_sum.keys import PUBLIC_KEY_BYTES, PublicKey, SecretKey
from fl_core.errors import RejectedUpdate, SpecError
from fl_core.program import extras

RESOLUTION = 1 << 16


@pytest.fixture(scope="module")
def secret() -> SecretKey:
    return SecretKey.new()


@pytest.fixture(scope="module")
def public(secret: SecretKey) -> PublicKey:
    return PublicKey(secret.public.residues)


def _sum(public: PublicKey, parts: list[tuple[np.ndarray, int]], scale: int) -> np.ndarray:
    total = ciphertexts.zero(parts[0][0].size)
    for values, weight in parts:
        ciphertexts.add(total, ciphertexts.read(public.encrypt(values, scale), values.size), weight)
    return total


@pytest.mark.parametrize("num_elements", [1, SLOTS - 1, SLOTS, SLOTS + 1])
@pytest.mark.parametrize("buffer_size", [1, 4, 2047])
def test_opened_sum_is_the_plain_sum(secret: SecretKey, public: PublicKey, num_elements: int, buffer_size: int) -> None:
    """At each scale, with weights at both ends, and elements as large as an element can be."""
    scale = ciphertexts.scale_bits(RESOLUTION, 16 * buffer_size)
    draw = np.random.default_rng(num_elements + buffer_size)
    parts = [(draw.integers(-RESOLUTION, RESOLUTION + 1, num_elements), weight) for weight in (1, 16, 7)]
    parts += [(np.full(num_elements, sign * RESOLUTION), 16) for sign in (1, 1, -1)]
    parts = parts[:1] if buffer_size == 1 else parts[: max(3, min(buffer_size, 6))]
    opened = secret.open(_sum(public, parts, scale), num_elements, scale)
    assert opened.dtype == np.int64
    assert (opened == sum(values * weight for values, weight in parts)).all()


def test_sum_at_the_end_of_its_range(secret: SecretKey, public: PublicKey) -> None:
    """2047 updates of weight 16 that all have the norm's bound in one element: the ciphertexts of one stand for all.

    Their error is the same then and adds up, which that of different ones does not: no sum has a larger one.
    """
    scale = ciphertexts.scale_bits(RESOLUTION, 16 * 2047)
    values = np.zeros(SLOTS, np.int64)
    values[[0, 1, -1]] = RESOLUTION, -RESOLUTION, 1
    encrypted = ciphertexts.read(public.encrypt(values, scale), SLOTS)
    total = ciphertexts.zero(SLOTS)
    for _ in range(128):
        ciphertexts.add(total, encrypted, 16)
    opened = secret.open(total, SLOTS, scale)
    assert np.abs(opened - values * 2048).max() <= 0.02 * 2048  # the error of one, 2048 times
    different = _sum(public, [(values, 16)] * 128, scale)
    assert (secret.open(different, SLOTS, scale) == values * 2048).all()


def test_ciphertexts_tell_nothing_by_their_equality(public: PublicKey) -> None:
    """The same vector gives other residues each time, of which about half are above p / 2."""
    values = np.zeros(SLOTS, np.int64)
    first, second = (np.frombuffer(public.encrypt(values, 30), "<u8") for _ in range(2))
    assert (first == second).mean() < 0.01
    assert abs((first > PRIME // 2).mean() - 0.5) < 0.05


def test_another_key_opens_nothing(public: PublicKey) -> None:
    """What it gives has nothing to do with what was encrypted."""
    values = np.full(SLOTS, 5)
    opened = SecretKey.new().open(_sum(public, [(values, 1)], 30), SLOTS, 30)
    assert (opened == 5).mean() < 0.01


def test_secret_key_is_kept(secret: SecretKey, public: PublicKey) -> None:
    """It comes back from its bytes with the same public half; a public half alone, or what is cut, is no secret key."""
    again = SecretKey(secret.to_bytes())
    assert again.public.residues == secret.public.residues
    values = np.arange(10)
    assert (again.open(_sum(public, [(values, 3)], 30), 10, 30) == 3 * values).all()
    shared = keys._serialize(public._context, secret=False)
    for wrong in (shared, b"", b"\0", secret.to_bytes()[:1000], secret.to_bytes()[:-1000]):
        with pytest.raises(SpecError, match="stored key"):
            SecretKey(wrong)


def test_public_key_from_a_hostile_keeper() -> None:
    """Of another length, or with what is no residue of its modulus: refused before TenSEAL sees it."""
    for wrong in (b"", bytes(PUBLIC_KEY_BYTES - 1), bytes(PUBLIC_KEY_BYTES + 8)):
        with pytest.raises(SpecError, match="bytes"):
            PublicKey(wrong)
    numbers = np.zeros(PUBLIC_KEY_BYTES // 8, "<u8")
    for place in (0, 8192, 2 * 8192, -1):
        hostile = numbers.copy()
        hostile[place] = 2**64 - 1
        with pytest.raises(SpecError, match="residue"):
            PublicKey(hostile.tobytes())
    hostile = numbers.copy()
    hostile[0] = PRIME  # a residue of the other modulus
    with pytest.raises(SpecError, match="residue"):
        PublicKey(hostile.tobytes())


def test_garbage_is_opened_or_refused(secret: SecretKey) -> None:
    """Random residues give random integers, and zeros give zeros; everything else is refused. The process goes on."""
    draw = np.random.default_rng(1)
    for _ in range(20):
        opened = secret.open(draw.integers(0, PRIME, 2 * 8192, np.uint64), SLOTS, 30)
        assert np.abs(opened).max() <= 2 ** (72 - 30)  # 8192 coefficients below p / 2
    assert not secret.open(ciphertexts.zero(1), 1, 30).any()
    for _ in range(50):
        with pytest.raises(RejectedUpdate):
            secret.open(draw.bytes(draw.integers(0, 2**18)), SLOTS, 30)
    with pytest.raises(RejectedUpdate, match="no residue"):
        secret.open(np.full(2 * 8192, PRIME, np.uint64), SLOTS, 30)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, with the extra that brings it."""
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda module: None)
    sentence = r"codec.name = 'ckks' needs TenSEAL and zstandard, .*pip install 'fedtide\[he\]'"
    for begin in (SecretKey.new, lambda: SecretKey(b""), lambda: PublicKey(b"")):
        with pytest.raises(SpecError, match=sentence):
            begin()


def test_too_long_to_be_encrypted(public: PublicKey) -> None:
    """Above a million parameters, with the reason."""
    with pytest.raises(SpecError, match=r"at most 1,000,000 parameters, and there are 1,000,001: .* 32 MB; .* keepers"):
        public.encrypt(np.zeros(1_000_001, np.int64), 30)
