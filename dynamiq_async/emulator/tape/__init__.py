"""Tapes: the recorded traffic between a client and a real App, which can be replayed.

| to find | look in |
|---|---|
| what a tape holds, and its file | `models` |
| what is masked on it | `masks` in the core |
| recording | `recorder`, `proxy`, `takes`, `upstream`, `responses`, `codings` |
| replaying | `player`, `matching` |
| what both share | `server`, `writer`, `sockets` |
"""

from .models import TapeError
from .player import Player
from .recorder import Recorder
from .server import TAPE_KEY, Serving, TapeServer

__all__ = ["TAPE_KEY", "Player", "Recorder", "Serving", "TapeError", "TapeServer"]
