"""Speak the demo corpus: espeak-ng through ctypes, then effects on its samples.

`python -m features.corpora.demo.speech FOLDER N_TRAIN N_DEVEL N_TEST` writes `FOLDER/wav`. It has
to be a process of its own: what espeak-ng says depends on what it has said before, so the bytes are
the same each time only if a fresh process speaks the whole plan in its order.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import soundfile
import soxr

from features.common.errors import UserError
from features.corpora.demo.plan import Utterance, plan

RATE_HZ = 16000
# From espeak-ng's speak_lib.h.
AUDIO_OUTPUT_SYNCHRONOUS = 2
CHARS_UTF8_SSML = 1 | 0x10
# Its number, and the range that it takes.
PARAMETERS = {
    "rate": (1, 80, 450),
    "volume": (2, 0, 200),
    "pitch": (3, 0, 99),
    "range": (4, 0, 99),
}
# One semitone on its pitch scale, where 50 is a voice's usual pitch and 100 about an octave above.
PITCH_A_SEMITONE = 5.0
TREMOLO_HZ = 5.5


def load_espeak() -> ModuleType:
    """Import the package that brings the espeak-ng library.

    Returns
    -------
    module
        `espeakng_loader`.

    Raises
    ------
    UserError
        If it is not installed.
    """
    try:
        import espeakng_loader
    except ImportError:
        raise UserError(
            "the demo corpus is spoken by espeak-ng, which is not installed: "
            "`pip install espeakng-loader`, or let make build .venv with demo among its EXTRAS"
        ) from None
    return espeakng_loader


def open_espeak() -> Callable[[Utterance], np.ndarray]:
    """Start espeak-ng.

    Returns
    -------
    callable
        Utterance -> float64 samples, shape (n,), at 16 kHz, as the synthesiser says it: voice,
        pitch, rate and pause, none of the effects.
    """
    loader = load_espeak()
    library = ctypes.CDLL(loader.get_library_path())
    rate_hz = library.espeak_Initialize(
        AUDIO_OUTPUT_SYNCHRONOUS, 0, str(loader.get_data_path()).encode(), 0
    )
    if rate_hz <= 0:
        raise UserError(f"{loader.get_library_path()}: espeak-ng does not start ({rate_hz})")
    heard: list[np.ndarray] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def listen(samples, n_samples, events):  # type: ignore[no-untyped-def]
        if samples and n_samples > 0:
            heard.append(np.ctypeslib.as_array(samples, (n_samples,)).copy())
        return 0

    library.espeak_SetSynthCallback(listen)
    # C holds no reference to it: without this one it is gone before the first call.
    library.listener = listen  # type: ignore[attr-defined]

    def say(utterance: Utterance) -> np.ndarray:
        speaker, cues = utterance.speaker, utterance.cues
        heard.clear()
        # The tract's factor is applied by resampling, which also changes the pace: undone here.
        settings = {
            "rate": speaker.words_a_minute * (1 + cues["rate"]) / speaker.tract,
            "volume": 100.0,
            "pitch": 50 + PITCH_A_SEMITONE * cues["pitch_st"],
            "range": cues["pitch_range"],
        }
        failed = library.espeak_SetVoiceByName(speaker.voice.encode())
        for name, value in settings.items():
            number, low, high = PARAMETERS[name]
            failed |= library.espeak_SetParameter(number, min(max(round(value), low), high), 0)
        library.espeak_ng_SetRandSeed(ctypes.c_long(utterance.seed))
        pause = f'<break time="{max(0, round(cues["pause_ms"]))}ms"/>'
        text = f", {pause} ".join(utterance.clauses).encode() + b".\0"
        failed |= library.espeak_Synth(
            text, ctypes.c_size_t(len(text)), 0, 0, 0, CHARS_UTF8_SSML, None, None
        )
        failed |= library.espeak_Synchronize()
        if failed or not heard:
            raise UserError(f"espeak-ng does not speak {utterance.name} with {speaker.voice}")
        samples = np.concatenate(heard) / 32768.0
        return soxr.resample(samples, rate_hz * speaker.tract, RATE_HZ, quality="HQ")

    return say


def add_effects(samples: np.ndarray, utterance: Utterance) -> np.ndarray:
    """Give a plain utterance its energy and spectrum cues, and its background noise.

    Parameters
    ----------
    samples : float64, shape (n,)
        At 16 kHz.

    Returns
    -------
    float64, shape (n,)
        In [-1, 1].
    """
    rng = np.random.default_rng([utterance.seed, 3])
    cues = utterance.cues
    seconds = np.arange(len(samples)) / RATE_HZ
    depth = np.clip(cues["tremolo"], 0, 0.7)
    samples = samples * (1 + depth * np.sin(2 * np.pi * (TREMOLO_HZ * seconds + rng.random())))
    # Breath follows the voice's envelope (25 ms) and lies above 1.5 kHz.
    width, size = RATE_HZ // 40, 1 << len(samples).bit_length()
    energy = np.cumsum(np.pad(samples**2, (width // 2 + 1, width - width // 2 - 1)))
    envelope = np.sqrt(np.maximum(energy[width:] - energy[:-width], 0) / width)
    hz = np.fft.rfftfreq(size, 1 / RATE_HZ)
    breath = np.fft.rfft(envelope * rng.standard_normal(len(envelope)), size)
    breath *= 10 ** (cues["breath_db"] / 20) * np.clip(hz / 1500 - 0.5, 0, 1)
    octaves = np.log2(np.clip(hz, 100, 8000) / 1000)
    bell = np.exp(-0.5 * (np.log2(np.clip(hz, 1, None) / 2800) / 0.5) ** 2)
    gain_db = cues["tilt_db"] * octaves + cues["presence_db"] * bell
    spectrum = (np.fft.rfft(samples, size) + breath) * 10 ** (gain_db / 20)
    voiced = np.fft.irfft(spectrum)[: len(samples)]
    voiced *= 10 ** (cues["level_db"] / 20) / _rms(voiced)
    # Background noise falls by 3 dB an octave, as a room's does.
    hum = np.fft.rfft(rng.standard_normal(len(samples)), size) / np.sqrt(np.clip(hz, 50, None))
    noise = np.fft.irfft(hum)[: len(samples)]
    noise *= _rms(voiced) * 10 ** (-utterance.snr_db / 20) / _rms(noise)
    return np.clip(voiced + noise, -1, 1)


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def speak(folder: Path, sizes: list[int]) -> None:
    """Write the WAV files of the plan, 16 bit, 16 kHz, to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    say = open_espeak()
    for utterance in plan(sizes):
        sound = add_effects(say(utterance), utterance)
        soundfile.write(folder / utterance.name, sound, RATE_HZ, subtype="PCM_16")


if __name__ == "__main__":
    try:
        speak(Path(sys.argv[1]) / "wav", [int(size) for size in sys.argv[2:]])
    except UserError as error:
        sys.exit(str(error))
