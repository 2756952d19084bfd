"""From image files to pixels: listing, reading ahead, decoding in a child process, rejects."""
