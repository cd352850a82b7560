"""pagews: a page that a browser has open hears from the server, and answers. For aiohttp.

See the README for the shortest application, and `docs/` for everything else.
"""

from .app import add_delegates, setup
from .broker import Broker
from .controller import websocket, websocket_start
from .counters import Statistics
from .delegates import DelegateTableDef
from .drain import drain
from .errors import (
    AskTimeout,
    BrokerUnavailable,
    ConfigurationError,
    DelegateError,
    EncodingError,
    LimitExceeded,
    MessageTooLarge,
    NotAuthorized,
    PageGone,
    PagewsError,
    ProtocolError,
    RemoteError,
)
from .gates import requires_user
from .handler import Context, WebSocketHandler
from .limits import Limits
from .memory_broker import MemoryBroker
from .page_handler import PageHandler
from .publisher import Publisher
from .push_targets import IdentityTarget, Page, PageTarget, Target
from .receipts import Ack, Receipt
from .site import get_publisher, login, logout, rotate_session
from .socket import Socket
from .templating import form_tag, open_page, script_tag
from .upload import Upload
from .wire import Binary, Close, Push, Text

__version__ = "0.1.0"

__all__ = [
    "Ack",
    "AskTimeout",
    "Binary",
    "Broker",
    "BrokerUnavailable",
    "Close",
    "ConfigurationError",
    "Context",
    "DelegateError",
    "DelegateTableDef",
    "EncodingError",
    "IdentityTarget",
    "LimitExceeded",
    "Limits",
    "MemoryBroker",
    "MessageTooLarge",
    "NotAuthorized",
    "Page",
    "PageGone",
    "PageHandler",
    "PageTarget",
    "PagewsError",
    "ProtocolError",
    "Publisher",
    "Push",
    "Receipt",
    "RemoteError",
    "Socket",
    "Statistics",
    "Target",
    "Text",
    "Upload",
    "WebSocketHandler",
    "add_delegates",
    "drain",
    "form_tag",
    "get_publisher",
    "login",
    "logout",
    "open_page",
    "requires_user",
    "rotate_session",
    "script_tag",
    "setup",
    "websocket",
    "websocket_start",
]
