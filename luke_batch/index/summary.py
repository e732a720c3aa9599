"""What a person is told of a build."""

from collections.abc import Iterator

from luke_batch.index.build import Built


def summary(built: Built) -> Iterator[str]:
    """A few lines."""
    manifest = built.version.manifest
    folder = built.version.folder.parent.parent
    if built.nothing_to_do:
        yield f"Nothing to do: {folder} holds these fragments already."
        return
    changes = manifest.changes
    kinds = ("new", "replaced", "removed", "kept")
    yield f"fragments  {', '.join(f'{changes[kind]:,} {kind}' for kind in kinds)}"
    yield (
        f"entities   {manifest.entities:,} of {manifest.mentions:,} mentions; {changes['entities_changed']:,}"
        f" new or changed, {changes['entities_removed']:,} removed"
    )
    vectors = manifest.vectors
    cells = (
        f", {vectors['partitions']:,} cells, {vectors['probes']:,} probed" if vectors["partitions"] else ""
    )
    yield f"vectors    {manifest.dimension} dimensions, {vectors['variant']}{cells}"
    recall = manifest.recall
    if recall is not None:
        found = f"{recall['value']:.3f} of exact search, {recall['sample']:,} entities sampled"
        yield f"recall@{recall['depth']}  {found}"
    yield f"index      {folder}, version {manifest.number}, {built.seconds:,.1f} s"
