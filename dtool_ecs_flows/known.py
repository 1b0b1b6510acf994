"""What is known of the items of a dataset in a bucket, so that the store is not asked again for what it has told."""

from __future__ import annotations

from dataclasses import replace

from dtool_ecs_flows.errors import ManifestError
from dtool_ecs_flows.models import Item
from dtool_ecs_flows.stored import StoredDataset
from dtool_ecs_flows.transfer import Transfer


class KnownItems:
    """What puts and HEADs told of items, each believed only of the object that it was told of."""

    def __init__(self) -> None:
        self._sent: dict[str, tuple[str, Item]] = {}  # by identifier: with the ETag that the put was answered with
        self._asked: dict[tuple[str, str, float], Item] = {}  # by identifier, ETag and time of the object

    def sent(self, item: Item, etag: str) -> None:
        """Note an item that was put; believed for as long as its object has this ETag, and without one not at all."""
        self._sent[item.identifier] = (etag, item)

    def put_in_vain(self, dataset: StoredDataset) -> list[str]:
        """Return the relpaths of what was put and is not in the manifest of the dataset, frozen meanwhile."""
        manifest = _named_by_manifest(dataset)
        return sorted(
            item.relpath
            for identifier, (_, item) in self._sent.items()
            if identifier not in manifest or manifest[identifier].hash != item.hash
        )

    def list(self, dataset: StoredDataset, *, checksums: bool) -> dict[str, Item]:
        """Return the items that are in the bucket now, by identifier: one request per 1,000, and one per unknown item.

        A HEAD tells the relpath and the checksum of an object. It is not needed of what was sent and, as long as no
        checksum is asked for, of what the manifest names: the identifier proves that the relpath is right.

        Raises:
            ManifestError: an object does not tell which item it is.
        """
        listed = dataset.listed_items()
        named = {} if checksums else _named_by_manifest(dataset)
        items: dict[str, Item] = {}
        unknown: list[tuple[str, str, float]] = []
        for identifier, info in listed.items():
            etag, sent = self._sent.get(identifier, ("", None))
            about = (identifier, info.etag, info.last_modified)
            item = sent if etag and etag == info.etag else self._asked.get(about) or named.get(identifier)
            if item is None:
                unknown.append(about)
            else:
                items[identifier] = replace(item, size=info.size, utc_timestamp=info.last_modified)
        with Transfer(dataset.store.settings.concurrency) as transfer:
            for about, asked in transfer.each(unknown, lambda about: dataset.item_of(listed[about[0]])):
                if isinstance(asked, Exception):
                    raise asked
                items[about[0]] = self._asked[about] = asked
        return {identifier: items[identifier] for identifier in listed}


def _named_by_manifest(dataset: StoredDataset) -> dict[str, Item]:
    try:
        return dataset.read_manifest().items
    except ManifestError:  # there is none before the freeze
        return {}
