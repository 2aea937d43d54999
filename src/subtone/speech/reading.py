"""A process that reads recordings and finds their speech: ``python -m subtone.speech.reading``.

It answers requests on its standard input until that ends, by messages of `subtone.speech.wire` on its standard output.
`subtone.extraction.readers` starts it and speaks with it: a decoder that crashes on a damaged file then costs that
file, not the run. It imports no torch, so that it starts in a fifth of a second and takes about 80 MB.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any

from subtone.audio.content import file_digest, file_version
from subtone.audio.parts import read_part
from subtone.errors import AudioError, SubtoneError, is_out_of_memory
from subtone.speech.base import Detector, Wave
from subtone.speech.detect import load_detector
from subtone.speech.held import detect_and_hold
from subtone.speech.wire import Broken, Out, send

_MOST_CHATTER = 1 << 20  # bytes of what libraries say, kept for a bug report
_MOST_TEXT = 8_000  # characters of a message, or of a traceback


def main() -> None:
    """Answer requests until there are no more."""
    # An interrupt is for the process that asked: it ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a library prints must not come between the messages.
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    # When memory runs out the system should end this process, which costs a clip, not the one that asked.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    with contextlib.suppress(Broken):
        _serve(requests, out)


def _listen(requests: queue.SimpleQueue[dict[str, Any]]) -> None:
    try:
        for line in sys.stdin.buffer:
            requests.put(json.loads(line))
    finally:
        # The one who asked is gone, maybe killed: whatever is being read, nobody waits for it.
        os._exit(0)


def _serve(requests: queue.SimpleQueue[dict[str, Any]], out: Out) -> None:
    config = requests.get()["detector"]
    try:
        detector = None if config is None else load_detector(config)
    except SubtoneError as error:
        return send(out, {"is": "failed", "message": str(error), "details": ""})
    send(out, {"is": "ready"})
    while True:
        request = requests.get()
        try:
            if "version" in request:  # of a recording that was read before
                _stream(request, out)
            else:
                _read(request, detector, requests, out)
        except Broken:
            raise
        except Exception as error:
            send(out, {"is": "failed", **_explained(request["file"], error)})
        _forget_chatter()


def _read(
    request: dict[str, Any], detector: Detector | None, requests: queue.SimpleQueue[dict[str, Any]], out: Out
) -> None:
    """Find the speech of a clip; send it with the samples, or without them when they are too many."""
    file = request["file"]
    version = file_version(file)
    digest = file_digest(file)
    if request["ask"]:
        send(out, {"is": "digest", "digest": digest})
        if not requests.get()["wanted"]:
            return
    speech, held = detect_and_hold(detector, _blocks(request), request["held_s"])
    if file_version(file) != version:
        raise AudioError(f"{file}: was changed while it was read; try again when it is at rest")
    header = {"is": "clip", "digest": digest, "version": version, "num_samples": speech.num_samples}
    header |= {"segments": len(speech), "held": held is not None}
    send(out, header, speech.starts, speech.ends, *(held or ()))


def _stream(request: dict[str, Any], out: Out) -> None:
    """Send the samples of a clip, block by block, from sample ``skip`` of it on."""
    _check_unchanged(request)
    skip = request["skip"]
    for block in _blocks(request):
        wave, skip = block[skip:], max(0, skip - len(block))
        if len(wave):
            send(out, {"is": "block"}, wave)
    _check_unchanged(request)
    send(out, {"is": "end"})


def _check_unchanged(request: dict[str, Any]) -> None:
    if file_version(request["file"]) != tuple(request["version"]):
        raise AudioError(
            f"{request['file']}: was changed since its speech was found; try again when it is at rest"
        )


def _blocks(request: dict[str, Any]) -> Iterator[Wave]:
    return read_part(
        request["file"], start_s=request["start_s"], end_s=request["end_s"], held_s=request["held_s"]
    )


def _explained(file: str, error: Exception) -> dict[str, str]:
    details = ""
    if isinstance(error, SubtoneError):
        message = str(error)
    elif is_out_of_memory(error):
        message = f"{file}: not enough memory for this clip; cut it into utterances"
    else:
        reason = f"{type(error).__name__}: {str(error).strip()}".split("\n")[0]
        message = (
            f"{file}: cannot be read (unexpected {reason}); this is a fault of Subtone, please report it"
        )
        details = traceback.format_exc()[-_MOST_TEXT:]
    return {"message": message[:_MOST_TEXT], "details": details}


def _forget_chatter() -> None:
    """Keep the file that collects what libraries say small."""
    with contextlib.suppress(OSError):
        if os.lseek(2, 0, os.SEEK_CUR) > _MOST_CHATTER:
            os.ftruncate(2, 0)
            os.lseek(2, 0, os.SEEK_SET)


if __name__ == "__main__":
    main()
