"""Named faults in what bounds a visitor: sockets, pages, messages, topics, delegates; and in who may ask for what."""

from __future__ import annotations

from typing import Final

from tools.mutant import Mutant

ADMISSION: Final = "pagews/admission.py"
HANDLER: Final = "pagews/page_handler.py"
DELEGATES: Final = "pagews/delegates.py"
FORM: Final = "pagews/form.py"
LIMITS: Final = "test_threats_limits"
FORMS: Final = "test_form_admission"

LIMIT_MUTANTS: Final = (
    Mutant(
        "threat 7: an open socket outlives its session",
        HANDLER,
        "            self._expiry = Countdown(max(0.0, identity.until - time.time()), end)\n",
        "            self._expiry = None\n",
        "test_threats_sessions",
    ),
    Mutant(
        "threat 15: sockets have no ceiling in all",
        ADMISSION,
        "if self._admitted >= self._limits.sockets:",
        "if False:",
        LIMITS,
    ),
    Mutant(
        "threat 15: sockets have no ceiling for an address",
        ADMISSION,
        "elif address is not None and self._by_address[address] >= self._limits.address_sockets:",
        "elif False:",
        LIMITS,
    ),
    Mutant(
        "threat 15: sockets have no ceiling for a session",
        ADMISSION,
        "elif session_id is not None and self._by_session[session_id] >= self._limits.session_sockets:",
        "elif False:",
        LIMITS,
    ),
    Mutant(
        "threat 15: sockets in all count from their upgrade on only",
        ADMISSION,
        "if self._admitted >= self._limits.sockets:",
        "if len(self) >= self._limits.sockets:",
        LIMITS,
    ),
    Mutant(
        "threat 15: who gets no socket keeps the place for one",
        ADMISSION,
        "        if not self.is_taken:\n            self._sockets.let_go(self.visitor)\n",
        "        pass\n",
        LIMITS,
    ),
    Mutant(
        "threat 15: an answer waits for its reader for ever",
        "pagews/answering.py",
        "                transport.abort()\n",
        "                pass\n",
        LIMITS,
    ),
    Mutant(
        "threat 14: messages are read before they are counted",
        "pagews/fallback.py",
        "        items = split_batch(body)\n",
        "        items = split_batch(body)\n        read_batch(items)\n",
        LIMITS,
    ),
    Mutant(
        "threat 23: a handler is given bytes for text",
        "pagews/fallback.py",
        "        if isinstance(message, Text) and not _is_utf8(message):\n",
        "        if False:\n",
        LIMITS,
    ),
    Mutant(
        "threat 33: a result goes to who comes next",
        HANDLER,
        "        return None if not message.qos or await self._has_ended(page) else result\n",
        "        return None if not message.qos else result\n",
        LIMITS,
    ),
    Mutant(
        "threat 15: a socket that is over counts on",
        ADMISSION,
        "        self.let_go(self._visitors.pop(socket))\n",
        "        self._visitors.pop(socket)\n",
        LIMITS,
    ),
    Mutant(
        "threat 15: nobody says why an upgrade was refused",
        "pagews/renew.py",
        "    site.sockets.check(site.sockets.visitor(request, identity.session_id))\n",
        "",
        LIMITS,
    ),
    Mutant(
        "threat 15: anybody's X-Forwarded-For is believed",
        "pagews/addresses.py",
        "            if not trusted:\n                break\n",
        "",
        "test_addresses",
    ),
    Mutant(
        "threat 15: the first address of X-Forwarded-For is believed",
        "pagews/addresses.py",
        "address, believed, trusted = told, True, self._trusts(told)",
        "address, believed = told, True",
        "test_addresses",
    ),
    Mutant(
        "threat 15: a proxy that nobody has named counts as one visitor",
        "pagews/addresses.py",
        "if address is None or not (believed or address.is_global):",
        "if address is None:",
        "test_addresses",
    ),
    Mutant(
        "threat 17: messages have no rate",
        "pagews/socket.py",
        "        if not self.admits():\n            return\n",
        "",
        LIMITS,
    ),
    Mutant(
        "threat 17: control frames have no rate",
        "pagews/controller.py",
        "    if socket.admits() and message.type is WSMsgType.PING:\n",
        "    if message.type is WSMsgType.PING:\n",
        LIMITS,
    ),
    Mutant(
        "threat 17: a page has a new allowance on every socket",
        HANDLER,
        "        context.socket.bucket = site.buckets.of(token.page, asyncio.get_running_loop().time())\n",
        "",
        LIMITS,
    ),
    Mutant(
        "threat 17: any number of delegates runs",
        DELEGATES,
        "        if self._running >= self._most:\n",
        "        if False:\n",
        LIMITS,
    ),
    Mutant(
        "threat 17: a delegate that has ended counts on",
        DELEGATES,
        "        finally:\n            self._running -= 1\n",
        "        finally:\n            pass\n",
        LIMITS,
    ),
    Mutant(
        "threat 18: a page joins any number of topics",
        "pagews/push_targets.py",
        "if topic not in topics and len(topics) >= self._publisher.limits.topics:",
        "if False:",
        LIMITS,
    ),
    Mutant(
        "threat 18: a session has any number of pages",
        HANDLER,
        "if context.attaches and len(pages) >= most and len(",
        "if False and len(",
        LIMITS,
    ),
    Mutant(
        "threat 18: a page that comes back takes another place",
        HANDLER,
        "len({page.id for page in pages} - {token.page}) >= most",
        "True",
        LIMITS,
    ),
    Mutant(
        "threat 33: joins are granted unless somebody objects",
        HANDLER,
        "        if self._site.authorize is None:\n            return False\n",
        "        if self._site.authorize is None:\n            return True\n",
        LIMITS,
    ),
    Mutant(
        "threat 33: nobody asks whether a topic is granted",
        HANDLER,
        "        if not is_authorized:\n",
        "        if False:\n",
        LIMITS,
    ),
    Mutant(
        "threat 33: a delegate runs whatever it requires",
        DELEGATES,
        "                if not await row.is_open_to(page):\n",
        "                if False:\n",
        LIMITS,
    ),
    Mutant(
        "threat 33: what is neither yes nor no is yes",
        "pagews/gates.py",
        "    if isinstance(answer, bool):\n        return answer\n",
        "    return bool(answer)\n",
        "test_delegates",
    ),
    Mutant(
        "threat 33: one requirement of several is enough",
        DELEGATES,
        "            if not said_yes(await requirement(page), requirement):\n                return False\n"
        "        return True\n",
        "            if said_yes(await requirement(page), requirement):\n                return True\n"
        "        return not self.requirements\n",
        "test_delegates",
    ),
    Mutant(
        "threat 15: a form is no socket of its visitor",
        FORM,
        "with site.sockets.admit(request, page.session.id) as place, _room_for(body, place.visitor, site):",
        "with _room_for(body, site.sockets.visitor(request, page.session.id), site):",
        FORMS,
    ),
    Mutant(
        "threat 15: who has many sessions has all places for files",
        FORM,
        "of_address < most and ",
        "",
        FORMS,
    ),
    Mutant(
        "threat 16: files come drop by drop",
        "pagews/form_body.py",
        "in_time(self._site, limits.stuck + limits.upload / FILES_RATE)",
        "in_time(self._site, 3600.0)",
        FORMS,
    ),
    Mutant(
        "threat 17: a flood of forms",
        FORM,
        "        _check_rate(page, site)\n",
        "",
        FORMS,
    ),
)
