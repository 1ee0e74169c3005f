"""The memory of strategies beside the buffer: earlier versions, each worker's last update, recent participation."""
