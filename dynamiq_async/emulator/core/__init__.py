"""The base of every service of the emulator. It knows none of the services.

| to find | look in |
|---|---|
| a request's body and fields | `body_limits`, `request_bodies`, `multipart`, `fields` |
| a response | `exchange`, `responding`, `refusals`, `response_headers`, `wire` |
| lists, and event streams | `pages`, `feed`, `event_stream` |
| the endpoints of a service | `service` |
| faults | `faults`, `fault_script`, `fault_rules`, `fault_data` |
| a server, and who may call it | `server`, `listener`, `connections`, `callers` |
| what a test sees | `request_record`, `log` |
| what outlives the process | `database` |
| the time, and new ids | `clock`, `ids` |
"""

from .database import DatabaseError
from .fault_data import read_fault
from .fault_rules import FaultRule, FaultRules
from .faults import FOREVER, HTML_PAGE, Fault
from .log import Log
from .multipart import Part
from .request_record import RequestRecord

__all__ = [
    "FOREVER",
    "HTML_PAGE",
    "DatabaseError",
    "Fault",
    "FaultRule",
    "FaultRules",
    "Log",
    "Part",
    "RequestRecord",
    "read_fault",
]
