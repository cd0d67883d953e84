"""What holds for all tests."""

import signal

# A shell starts background jobs with SIGINT ignored, and every process below inherits that; the tests send SIGINT.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
