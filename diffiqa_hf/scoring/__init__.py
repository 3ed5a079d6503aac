# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
What every command and script that reads faces shares: which images a folder holds, whose they are, tables of scores
and of people, embeddings in files, and (`image_stream`) images on their way to a network. Imported without torch.
"""
