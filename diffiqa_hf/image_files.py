# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Which images a folder holds, the same for every command and method."""

import os


IMAGE_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")


def find_images(paths: list[str], recursive: bool = False) -> tuple[list[str], list[str]]:
    """The images that files and folders stand for.

    A file that is named is taken whatever its ending is (and whether or not it is there: scoring it says what is wrong
    with it). In a folder those with the ending of an image are taken, in the order of their names. Symbolic links are
    followed; a folder is looked into once, however many links lead to it.

    Returns:
        The files, each once, and a line for each folder that could not be read or has no images.
    """
    files: dict[str, None] = {}
    problems = []
    seen: set[tuple[int, int]] = set()
    for argument in paths:
        if not os.path.isdir(argument):
            files[argument] = None
            continue
        found = 0
        readable = True
        has_folders = False
        folders = [argument]
        while folders:
            folder = folders.pop()
            try:
                status = os.stat(folder)
                if (status.st_dev, status.st_ino) in seen:
                    found += 1  # its images, if any, are in the list
                    continue
                seen.add((status.st_dev, status.st_ino))
                names = sorted(os.listdir(folder))
            except OSError as error:
                problems.append(f"cannot read the folder {folder}: {error.strerror or error}")
                readable = False
                continue
            inside = [os.path.join(folder, name) for name in names]
            folders_inside = [path for path in inside if os.path.isdir(path)]
            has_folders = has_folders or bool(folders_inside)
            if recursive:
                folders += reversed(folders_inside)
            for path in inside:
                # A link that leads nowhere is kept, to be reported; a folder, pipe or socket is not an image.
                if path.lower().endswith(IMAGE_ENDINGS) and (os.path.isfile(path) or not os.path.exists(path)):
                    files[path] = None
                    found += 1
        if not found and readable:
            hint = ", only folders: --recursive looks into them" if has_folders and not recursive else ""
            problems.append(f"no images in the folder {argument}{hint}")
    return list(files), problems


__all__ = ["IMAGE_ENDINGS", "find_images"]
