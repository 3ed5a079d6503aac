# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The page of `diffiqa app`: faces of photographs with their scores, in a browser. Nothing leaves the machine.

It needs `pip install "diffiqa-hf[app]"`: Starlette, uvicorn and python-multipart.
"""

from .server import create_app


__all__ = ["create_app"]
