"""How the wire's faults are refused: its words and ours, side by side."""

from proxy.core.refusal import Refusal
from proxy.http1.message import Fault

REFUSALS = {
    Fault.BAD_REQUEST: Refusal.BAD_REQUEST,
    Fault.METHOD: Refusal.METHOD_REFUSED,
    Fault.VERSION: Refusal.VERSION,
    Fault.CODING: Refusal.TRANSFER_CODING,
    Fault.EXPECTATION: Refusal.EXPECTATION_FAILED,
    Fault.URI_TOO_LONG: Refusal.URI_TOO_LONG,
    Fault.FIELDS_TOO_LARGE: Refusal.FIELDS_TOO_LARGE,
    Fault.TIMEOUT: Refusal.REQUEST_TIMEOUT,
    Fault.OVERLOADED: Refusal.OVERLOADED,
}
