"""A kit for authors of strategies, methods and codecs: tests in a few lines, without a broker or processes.

======================  ==========================================================================================
``same_bits``           a strategy that is saved anywhere and restored elsewhere goes on to the same bits
``round_trip``          a codec brings a vector there and back within its bound, and takes hostile bytes for hostile
``one_task``            a method does one task, and what it sends has the right form
``LogByHand``           a campaign in memory, whose log is written entry by entry
``FakeBlobs``           a store of payloads in memory
======================  ==========================================================================================

A test fails by an ``AssertionError`` that says what is wrong.
"""

import fedtide.own_packages  # noqa: F401 - before all that stands on them
from fedtide.testing.blobs import FakeBlobs
from fedtide.testing.codecs import round_trip
from fedtide.testing.log import LogByHand
from fedtide.testing.methods import device_task, one_task
from fedtide.testing.strategies import contributions, same_bits

__all__ = ["FakeBlobs", "LogByHand", "contributions", "device_task", "one_task", "round_trip", "same_bits"]
