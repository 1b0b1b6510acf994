"""What can be seen on this computer: settings with their origins, and plugins."""

from __future__ import annotations

import warnings

from dtool_ecs_flows import layout, plugins
from dtool_ecs_flows.doctor.report import Step
from dtool_ecs_flows.errors import PluginError, SettingsError
from dtool_ecs_flows.settings import DEFAULT, BucketSettings, resolve

_OURS = "ECSStorageBroker"


def look_up(bucket: str) -> tuple[BucketSettings | None, list[Step]]:
    """Return the settings of a bucket, if they are complete, and what there is to say of them."""
    settings: BucketSettings | None = None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            settings = found = resolve(bucket)
        except SettingsError as error:
            step = Step(name="settings", state="failed", found=str(error), advice=_HOW.format(bucket))
        else:
            step = Step(name="settings", state="ok", found="complete", details=tuple(_origins(found)))
    # That no certificate is checked is for the step about TLS to say.
    said = [str(each.message) for each in told if not str(each.message).startswith("the certificate of ")]
    return settings, [step, *(Step(name="settings", state="warning", found=text) for text in said)]


_HOW = (
    "dtool config ecs endpoint {0} https://HOST:9021, and so on with access-key-id and secret-access-key; or set the "
    "variables of these names"
)


def _origins(settings: BucketSettings) -> list[str]:
    """Return a line for each value that was set, with where it came from, and no secret."""
    values = {
        name: "(set, not shown)" if name == "secret_access_key" else str(value)
        for name, value in settings
        if name != "bucket" and settings.origin(name) != DEFAULT
    }
    return [f"{name}: {value or '(none)'} (from {settings.origin(name)})" for name, value in values.items()]


def look_at_plugins() -> Step:
    """Tell which installed packages serve ecs:// URIs, and whether dtoolcore can import all that it finds."""
    serving = plugins.serving(layout.SCHEME, _OURS)
    names = list(dict.fromkeys(serving.values()))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say when they are imported is no step of this
            plugins.check(f"{layout.SCHEME}://")
    except PluginError as error:
        return Step(name="plugins", state="failed", found=str(error))
    if not serving:
        return Step(
            name="plugins",
            state="failed",
            found="no installed package tells dtoolcore that it serves ecs:// URIs",
            advice="install dtool-ecs-flows with pip, into the environment of dtool",
        )
    if len(serving) > 1:
        return Step(
            name="plugins",
            state="warning",
            found=f"{', '.join(names)} all serve ecs:// URIs; dtoolcore takes {names[-1]}",
            advice="uninstall all but one; docs/moving-from-dtool-ecs.md says what becomes of dtool-ecs",
        )
    return Step(name="plugins", state="ok", found=f"{names[0]} serves ecs:// URIs, and no plugin is broken")
