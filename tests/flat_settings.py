"""Settings of a search with the options of its rule beside all others, as tests vary and read them one by one."""

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

from branchwise.search.rules.options import from_flat, numbers_of
from branchwise.search.settings import SearchSettings


def flat_settings(**options: Any) -> SearchSettings:
    """``flat_settings(selection="uct", exploration=1.0)`` is ``SearchSettings(selection=Uct(exploration=1.0))``.
    Options that the rule does not read are left out."""
    return SearchSettings(**from_flat(options))


def flat(settings: SearchSettings) -> Any:
    """All options of the settings and of their rule side by side, ``selection`` the rule's name. What the rule does not
    have is at its default."""
    own = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return SimpleNamespace(**{**own, **numbers_of(settings.rule), "selection": settings.rule.name})


def changed(settings: SearchSettings, **options: Any) -> SearchSettings:
    """The settings with other options, of the rule too."""
    return flat_settings(**{**vars(flat(settings)), **options})
