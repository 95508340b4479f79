"""Tapes: what passed between a client and a real App, recorded to be played again.

| to find | look in |
|---|---|
| what a tape holds, and its file | `models` |
| what is kept off it | `masks` in the core |
| recording | `recorder`, `proxy`, `takes`, `upstream`, `responses`, `codings` |
| replaying | `player`, `matching` |
| what both are | `server`, `writer`, `sockets` |
"""

from .models import TapeError
from .player import Player
from .recorder import Recorder
from .server import TAPE_KEY, Serving, TapeServer

__all__ = ["TAPE_KEY", "Player", "Recorder", "Serving", "TapeError", "TapeServer"]
