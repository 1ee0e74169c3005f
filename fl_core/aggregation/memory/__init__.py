"""What strategies remember beside the buffer: versions of before, each worker's last update, who took part of late."""
