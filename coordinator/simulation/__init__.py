"""One campaign under a virtual clock: the coordinator as it is deployed, over a twin of the broker, and devices that
train when the clock says so. The same seed gives the same bits."""
