"""How large micrographs are shown."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from napari_matseg.settings.base import Settings


class ViewSettings(Settings):
    """How large micrographs are shown."""

    pyramid_from: Annotated[int, Field(ge=1)] = 4096
    """Images that stay in their file get smaller copies for viewing if their longer side, or that of the smallest copy
    in the file, has more pixels than this."""
    pyramid_bytes: Annotated[int, Field(ge=0)] = 20 * 2**30
    """Bound of all smaller copies in the user's cache folder together; those that were not used for longest go
    first."""
    costly_bytes: Annotated[int, Field(ge=1)] = 32 * 2**20
    """Files of which a view takes more than this are offered to be converted."""
