"""Options that several commands share."""

from typing import Annotated

import typer

Input = Annotated[
    str,
    typer.Argument(
        metavar="INPUT", help="Parquet file, folder, glob, hive-partitioned folder, Delta or Iceberg table, or s3://…"
    ),
]
Output = Annotated[str, typer.Argument(metavar="OUTPUT", help="Folder of the annotated corpus, or s3://…")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="KEY=VALUE",
        help="Only this hive partition of INPUT; may be repeated: values of one key mean any of them.",
    ),
]
ConfigFile = Annotated[str | None, typer.Option("--config", metavar="FILE", help="YAML file with the configuration.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. heads.0.threshold=0.4; may be repeated."),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="auto|local|HOST:PORT",
        help="Ray cluster to run on; without it RAY_ADDRESS if that is set, else a local one.",
    ),
]
ConfirmVanished = Annotated[
    bool,
    typer.Option(
        "--confirm-vanished", help="Go on although more of OUTPUT has vanished from INPUT than output.vanished_limit."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Shared = Annotated[bool, typer.Option("--shared", help="Local paths are mounted on every node of the cluster.")]
