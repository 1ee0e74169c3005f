"""The colours of pictures and charts: those of Okabe and Ito, which colour-blind people can tell apart."""

from __future__ import annotations

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A6100", "#5F6368")
BLUE, ORANGE, GREEN, *_, GREY = COLOURS
