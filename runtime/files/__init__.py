"""Bytes in and out: pictures, clips, URLs, object stores. Knows nothing of graphs.

`image_files` and `video_files` encode and decode, `input_pictures` and `safe_fetch` read what a
request names, `embedded_text` puts text into files, `atomic_write` makes files appear whole or not
at all, `object_store` uploads.
"""
