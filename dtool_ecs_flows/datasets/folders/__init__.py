"""Plain folders: their sub-folders become datasets, once each is complete, and the same folder only once.

A dataset that is made of a folder has a UUID made of its name and its content (paths, sizes and MD5 of all files). So
whatever has been archived is found by its UUID: nothing has to be remembered, and an interrupted run, or another
worker, goes on with the same dataset. A folder that has changed has another UUID: another dataset, beside the first.

Rooms: `tree` (the files that a folder has now), `content` (their hashes, and from them the UUID), `look` (which
sub-folders are complete), `archive` (the copy).
"""

from dtool_ecs_flows.datasets.folders.archive import archive_folder
from dtool_ecs_flows.datasets.folders.content import default_memory
from dtool_ecs_flows.datasets.folders.look import Completeness, FolderList, PlainFolder, dataset_name, look_at_folders
from dtool_ecs_flows.datasets.folders.tree import local_path

__all__ = [
    "Completeness",
    "FolderList",
    "PlainFolder",
    "archive_folder",
    "dataset_name",
    "default_memory",
    "local_path",
    "look_at_folders",
]
