"""Ctrl-C at some moment of a call: how long it waits to be heard, and what the call left changed."""

import os
import signal
import threading
import time


def wait_after_ctrl_c(work, moment):
    """Press Ctrl-C so many seconds into a call; return the seconds until it was heard, None where it never was."""
    pressed = []

    def press():
        pressed.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(moment, press)
    try:
        timer.start()
        work()
        timer.join()
        time.sleep(0.05)  # Python may handle the signal a little after it was sent
    except KeyboardInterrupt:
        return time.perf_counter() - pressed[0]
    finally:
        timer.join()
    return None


def changed(model, before):
    """Return the names of attributes that are other objects than before, new ones and lost ones included."""
    now = vars(model)
    return {name for name in now.keys() | before.keys() if now.get(name, before) is not before.get(name, now)}
