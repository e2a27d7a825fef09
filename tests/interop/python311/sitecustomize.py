"""Lets SkyRL 0.3.0 start on Python 3.11: pydantic takes the TypedDict of `typing` from 3.12 on only."""

import typing

import typing_extensions

typing.TypedDict = typing_extensions.TypedDict
