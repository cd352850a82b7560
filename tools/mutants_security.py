"""Named faults in what stands between pagews and hostile input: each takes one check out.

The numbers are those of `docs/explanation/threats.md`. Where two lines do the same, one cannot be tested by taking it
away: a post whose session has ended is refused for its cookie before anybody looks at what its token says.
"""

from __future__ import annotations

from typing import Final

from tools.mutant import Mutant

ENCRYPTION: Final = "pagews/encryption.py"
FALLBACK: Final = "pagews/fallback.py"
FORM: Final = "pagews/form.py"
HANDLER: Final = "pagews/page_handler.py"
IDENTITY: Final = "pagews/identity.py"
ORIGIN: Final = "pagews/origin.py"
PARTS: Final = "pagews/form_parts.py"
REQUESTS: Final = "pagews/requests.py"
TOKENS: Final = "pagews/tokens.py"
WIRE: Final = "pagews/wire.py"

ANSWERS: Final = "test_threats_answers"
FRAMES: Final = "test_threats_frames"
KEYS: Final = "test_threats_keys"
NAMES: Final = "test_threats_names"
OF_REQUESTS: Final = "test_threats_requests"
SIZES: Final = "test_threats_sizes"
WHO: Final = "test_threats_identity"

SECURITY_MUTANTS: Final = (
    # --- other sites
    Mutant("threat 1: nobody asks where a request comes from", ORIGIN, "if origin is None:", "if True:", OF_REQUESTS),
    Mutant(
        "threat 1: a page without an origin is the site's own",
        ORIGIN,
        "if origin is None:",
        'if origin in (None, "null"):',
        "test_origin",
    ),
    Mutant(
        "threat 1: a host that ends alike is the same",
        ORIGIN,
        "theirs.hostname == ours.hostname",
        "theirs.hostname.endswith(ours.hostname)",
        "test_origin",
    ),
    Mutant(
        "threat 1: ports are not compared",
        ORIGIN,
        "            and (theirs.port or default) == (ours.port or default)\n",
        "",
        "test_origin",
    ),
    Mutant(
        "threat 1: the port that a scheme has by itself is another one",
        ORIGIN,
        "(theirs.port or default) == (ours.port or default)",
        "theirs.port == ours.port",
        "test_origin",
    ),
    Mutant(
        "threat 1: allowed origins add to the default",
        ORIGIN,
        "    elif _same_host(",
        "    if _same_host(",
        OF_REQUESTS,
    ),
    Mutant(
        "threat 1: an allowed origin is the beginning of one",
        ORIGIN,
        "if origin in site.allowed_origins:",
        "if any(origin.startswith(each) for each in site.allowed_origins):",
        OF_REQUESTS,
    ),
    Mutant(
        "threat 1: an allowed origin is written as no browser does",
        "pagews/app.py",
        "        if written != origin:\n",
        "        if written is None:\n",
        "test_origin",
    ),
    Mutant(
        "threat 1: the log names the host alone",
        ORIGIN,
        'from origin %.100r to %s %.100r", origin, asked, request',
        'to %s %.100r", asked, request',
        OF_REQUESTS,
    ),
    Mutant(
        "threat 1: upgrades come from anywhere",
        "pagews/controller.py",
        "    check_origin(request, site)\n",
        "",
        OF_REQUESTS,
    ),
    Mutant(
        "threat 1: posts come from anywhere",
        REQUESTS,
        "        check_origin(request, site)\n",
        "        pass\n",
        OF_REQUESTS,
    ),
    Mutant(
        "threat 1: a form that hides its origin is the site's own",
        REQUESTS,
        'headers.get("Sec-Fetch-Site") == "same-origin"',
        "True",
        OF_REQUESTS,
    ),
    Mutant(
        "threat 2: the request line says which host it is",
        ORIGIN,
        'elif _same_host(origin, request.headers.get("Host", "")):',
        "elif _same_host(origin, request.host):",
        OF_REQUESTS,
    ),
    Mutant(
        "threat 2: the request line says that the connection is encrypted",
        IDENTITY,
        'self.cookie_params["secure"] = request.secure',
        'self.cookie_params["secure"] = request._message.url.scheme == "https"',
        OF_REQUESTS,
    ),
    Mutant(
        "threat 2: a form leads where the request line says",
        "pagews/templating.py",
        "return before + request.rel_url.raw_path_qs",
        "return before + str(request._message.url)",
        OF_REQUESTS,
    ),
    Mutant(
        "threat 3: any media type is JSON",
        REQUESTS,
        'if request.content_type not in media_types or "Content-Encoding"',
        'if "Content-Encoding"',
        OF_REQUESTS,
    ),
    Mutant(
        "threat 4: a stream can be had by GET",
        "pagews/app.py",
        'router.add_post(f"{prefix}/{path}", handler, name',
        'router.add_route("*", f"{prefix}/{path}", handler, name',
        "test_routes",
    ),
    Mutant(
        "threat 4: an answer may be taken for a script",
        REQUESTS,
        '    "X-Content-Type-Options": "nosniff",\n',
        "",
        "test_routes",
    ),
    # --- who is who
    Mutant(
        "threat 5: a token is good in any browser session",
        HANDLER,
        "identity.session_id is None or token.session != identity.session_id:",
        "identity.session_id is None:",
        WHO,
    ),
    Mutant(
        "threat 5: a form may come from any browser session",
        "pagews/form.py",
        "identity.session_id is None or token.session != identity.session_id:",
        "identity.session_id is None:",
        WHO,
    ),
    Mutant(
        "threat 5: a token is good for ever",
        TOKENS,
        "expired or -CLOCK_SKEW <= age <= self._life",
        "expired or -CLOCK_SKEW <= age",
        WHO,
    ),
    Mutant(
        "threat 5: a token of another session is told apart",
        HANDLER,
        '"the token is not good for this browser session", CloseCode',
        'f"the token is {token and token.page} and not good for this browser session", CloseCode',
        WHO,
    ),
    Mutant("threat 5: who is refused is not counted", "pagews/socket.py", '["token"] += 1', '["token"] += 0', WHO),
    Mutant(
        "threat 6: another user takes the page over",
        HANDLER,
        "        if token.user != identity.user_id:\n",
        "        if False:\n",
        "test_protocol_identity",
    ),
    Mutant(
        "threat 6: a session outlives its login",
        IDENTITY,
        '        session[USER_ID] = check_name("a user id", user_id)\n        await self.rotate(request)\n',
        '        session[USER_ID] = check_name("a user id", user_id)\n',
        WHO,
    ),
    Mutant(
        "threat 6: a session outlives its logout",
        IDENTITY,
        "        session.pop(USER_ID, None)\n        await self.rotate(request)\n",
        "        session.pop(USER_ID, None)\n",
        WHO,
    ),
    Mutant(
        "threat 6: a session is rotated and not revoked",
        IDENTITY,
        "            await self.node.revoke(Address.session(old).channel)\n",
        "",
        WHO,
    ),
    Mutant(
        "threat 6: the cookie of a session that was revoked is taken",
        IDENTITY,
        "elif await self.is_revoked(session_id, user_id, since):",
        "elif False:",
        WHO,
    ),
    Mutant(
        "threat 8: what a WebSocket writes to its session is dropped",
        "pagews/controller.py",
        "Context(request, read_only(await aiohttp_session.get_session(request)))",
        "Context(request, await aiohttp_session.get_session(request))",
        WHO,
    ),
    Mutant(
        "threat 8: what a stream, a poll or a post writes to its session is dropped",
        FALLBACK,
        "Context(request, read_only(await aiohttp_session.get_session(request)),",
        "Context(request, await aiohttp_session.get_session(request),",
        WHO,
    ),
    Mutant(
        "threat 8: a session that can be read only is a copy",
        IDENTITY,
        "    session.__class__ = ReadOnlySession\n    return session\n",
        '    copied: SessionData = {"created": session.created, "session": dict(session)}\n'
        "    return ReadOnlySession(session.identity, data=copied, new=session.new)\n",
        WHO,
    ),
    Mutant(
        "threat 10: ids can be guessed",
        TOKENS,
        "return secrets.token_urlsafe(16)",
        "return secrets.token_urlsafe(8)",
        "test_tokens",
    ),
    Mutant(
        "threat 11: the first key alone decrypts",
        ENCRYPTION,
        "for cipher in self._ciphers:",
        "for cipher in self._ciphers[:1]:",
        KEYS,
    ),
    Mutant("threat 11: the last key encrypts", ENCRYPTION, "self._ciphers[0].", "self._ciphers[-1].", KEYS),
    Mutant("threat 11: clocks do not differ", TOKENS, "expired or -CLOCK_SKEW <= age", "expired or 0 <= age", KEYS),
    Mutant(
        "threat 11: clocks differ by any time", TOKENS, "expired or -CLOCK_SKEW <= age <=", "expired or age <=", KEYS
    ),
    Mutant(
        "threat 11: a token that is over is not renewed",
        "pagews/renew.py",
        "site.tokens.read(renewal.token, expired=True)",
        "site.tokens.read(renewal.token)",
        KEYS,
    ),
    Mutant(
        "threat 34: bytes that are no text spoil a cookie's request",
        ENCRYPTION,
        "        except ValueError:\n            return None\n",
        "        except LookupError:\n            return None\n",
        OF_REQUESTS,
    ),
    Mutant(
        "threat 35: a token of another session is renewed",
        "pagews/renew.py",
        "if token.session != identity.session_id or token.user",
        "if token.user",
        WHO,
    ),
    Mutant(
        "threat 11: a page whose token is not good asks for no other",
        "static/link.js",
        "    else void this.#ask({ code, reason });\n",
        "    else this.#end({ code, reason });\n",
        "test_javascript",
    ),
    Mutant(
        "threat 35: a page that is refused asks again and again",
        "static/link.js",
        "} else if (this.#renewedOnce) this.#end({ code, reason });",
        "} else if (this.#renewedOnce && code === 0) this.#end({ code, reason });",
        "test_javascript",
    ),
    Mutant("threat 36: a key may be missing", TOKENS, "    if not given:\n", "    if given is None:\n", KEYS),
    Mutant("threat 36: a key may be short", TOKENS, "if len(raw) != 32:", "if len(raw) > 33:", KEYS),
    Mutant("threat 36: a key may be the example", TOKENS, "if key.decode() == EXAMPLE_KEY:", "if False:", KEYS),
    Mutant(
        "threat 36: while debugging any key will do",
        "pagews/app.py",
        "if debug and secret_key is None and not os.environ.get(ENVIRONMENT):",
        "if debug:",
        KEYS,
    ),
    # --- too much
    Mutant(
        "threat 12: a WebSocket takes messages of any size",
        "pagews/controller.py",
        "max_msg_size=site.limits.message_up + 1,",
        "max_msg_size=0,",
        SIZES,
    ),
    Mutant(
        "threat 12: a post takes messages of any size",
        FALLBACK,
        "if len(frame_payload(message.frame)) > site.limits.message_up:",
        "if False:",
        SIZES,
    ),
    Mutant(
        "threat 12: what is too big is not counted",
        "pagews/controller.py",
        'reason = "message too big" if error.code == WSCloseCode.MESSAGE_TOO_BIG else "malformed frame"',
        'reason = "malformed frame"',
        SIZES,
    ),
    Mutant("threat 13: compression is agreed upon", "pagews/controller.py", "compress=False,", "compress=True,", SIZES),
    Mutant(
        "threat 13: a body may be compressed",
        REQUESTS,
        ' or "Content-Encoding" in request.headers:',
        ":",
        SIZES,
    ),
    Mutant(
        "threat 14: a body says itself how long it is",
        REQUESTS,
        "        if len(body) > limit:\n",
        "        if False:\n",
        "test_fallback",
    ),
    Mutant(
        "threat 14: a body that says that it is too long is read",
        REQUESTS,
        "    if announced > limit:\n",
        "    if False:\n",
        "test_fallback",
    ),
    Mutant(
        "threat 14: a post has any number of messages",
        FALLBACK,
        "        if len(items) > site.limits.post_frames:\n",
        "        if False:\n",
        "test_fallback",
    ),
    Mutant(
        "threat 14: a post may come a byte at a time",
        REQUESTS,
        "return in_time(self._site, min(stuck, left))",
        "return in_time(self._site, stuck)",
        "test_fallback",
    ),
    Mutant(
        "threat 16: a hello has all the time there is",
        HANDLER,
        "Countdown(self._site.limits.hello, end)",
        "Countdown(3600, end)",
        WHO,
    ),
    Mutant(
        "threat 16: a body has all the time there is",
        REQUESTS,
        "    async with in_time(site, site.limits.hello):\n",
        "    async with in_time(site, 3600):\n",
        "test_fallback",
    ),
    Mutant(
        "threat 19: a page that is rendered is kept",
        "pagews/templating.py",
        "        request[_PAGE] = page\n",
        "        request[_PAGE] = page\n        site.posts[page.id, page.id] = bool\n",
        SIZES,
    ),
    # --- messages
    Mutant(
        "threat 20: an answer of any page will do",
        "pagews/receipts.py",
        "if self.channel not in answer.channels or answer.document in self._documents:",
        "if answer.document in self._documents:",
        ANSWERS,
    ),
    Mutant(
        "threat 20: answers that nobody waits for are not counted",
        "pagews/publisher.py",
        '            self.counters.refused["answer nobody waits for"] += 1\n',
        "            pass\n",
        ANSWERS,
    ),
    Mutant(
        "threat 20: numbers may be negative",
        WIRE,
        "_Id = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]",
        "_Id = Annotated[int, Meta(le=MAX_INTEGER)]",
        ANSWERS,
    ),
    Mutant(
        "threat 21: a send that comes again runs again",
        HANDLER,
        "            if not claim.granted:\n",
        "            if False:\n",
        ANSWERS,
    ),
    Mutant(
        "threat 22: a second hello is taken",
        HANDLER,
        '        raise ProtocolError("a second hello")\n',
        "        return None\n",
        "test_protocol",
    ),
    Mutant(
        "threat 22: nobody is told what is wrong",
        WIRE,
        "raise ProtocolError(why or str(error)) from error",
        'raise ProtocolError("malformed") from error',
        FRAMES,
    ),
    Mutant(
        "threat 22: malformed frames are not counted",
        "pagews/socket.py",
        '["malformed frame"] += 1',
        '["malformed frame"] += 0',
        FRAMES,
    ),
    Mutant(
        "threat 23: what is nested without end is a failure of the server",
        WIRE,
        '    except RecursionError as error:\n        _refuse(error, "nested too deeply")\n',
        "",
        FRAMES,
    ),
    Mutant(
        "threat 23: bytes that are no UTF-8 are a failure of the server",
        WIRE,
        "    except (msgspec.DecodeError, ValueError, OverflowError) as error:\n        _refuse(error)\n",
        "    except msgspec.DecodeError as error:\n        _refuse(error)\n",
        FRAMES,
    ),
    Mutant(
        "threat 23: what cannot be written is an error of its own kind",
        WIRE,
        "except (TypeError, ValueError, RecursionError, OverflowError) as error:",
        "except (TypeError, OverflowError) as error:",
        FRAMES,
    ),
    Mutant(
        "threat 24: a name has any characters",
        "pagews/targets.py",
        " or not name.isprintable():",
        ":",
        NAMES,
    ),
    Mutant(
        "threat 24: a name has any length",
        WIRE,
        "_Name = Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH)]",
        "_Name = str",
        NAMES,
    ),
    Mutant(
        "threat 24: a document has any name",
        WIRE,
        'document: Annotated[str, Meta(pattern=r"^[0-9A-Za-z_-]{16,64}\\Z")]',
        "document: str",
        NAMES,
    ),
    Mutant(
        "threat 24: a document's name may end its line",
        WIRE,
        '{16,64}\\Z")]',
        '{16,64}$")]',
        NAMES,
    ),
    Mutant(
        "threat 24: the client takes any name",
        "static/wire.js",
        "!/^(?:[^\\p{C}\\p{Z}]| ){1,200}$/u.test(name)",
        'name === ""',
        "test_javascript",
    ),
    Mutant(
        "threat 27: a line end in a message ends it",
        "pagews/text_frames.py",
        "payload.translate(_ONE_LINE)",
        "payload",
        "test_fallback",
    ),
    # --- Redis
    Mutant(
        "threat 29: a topic is a pattern",
        "pagews/redis_link.py",
        '(b"SUBSCRIBE", *channels)',
        '(b"PSUBSCRIBE", *channels)',
        NAMES,
    ),
    Mutant(
        "threat 30: who comes next gets the reply of a call that was cancelled",
        "pagews/redis_link.py",
        "        return await call.reply\n",
        "        try:\n            return await call.reply\n        finally:\n            if call in self._sent:\n"
        "                self._sent.remove(call)\n",
        "test_threats_redis",
    ),
    # --- forms
    Mutant(
        "threat 6: the answer of a form undoes a login",
        FORM,
        "        if await site.identities.lasts(request):\n            await keep_outcome(",
        "        if True:\n            await keep_outcome(",
        "test_form_sessions",
    ),
    Mutant(
        "threat 6: a form runs as who has logged out while its files came",
        FORM,
        "            if not await site.identities.lasts(request):\n",
        "            if False:\n",
        "test_form_sessions",
    ),
    Mutant(
        "threat 1: of another site's form it is asked who is there",
        "pagews/site.py",
        ', "post", "form", "renew", "static"))',
        ', "post", "static"))',
        "test_form_admission",
    ),
    Mutant(
        "threat 23: aiohttp warns of what a form calls its parts",
        PARTS,
        "            part.headers = type(part.headers)(headers)\n",
        "            pass\n",
        "test_form_parts",
    ),
    Mutant(
        "threat 24: a name of a form is what it is escaped as",
        PARTS,
        "return _ESCAPE.sub(lambda found: _ESCAPED[found[0]], name)",
        "return name",
        "test_form_parts",
    ),
    # --- what nobody else sees
    Mutant(
        "threat 9: a token shows in whatever is logged of it",
        "pagews/tokens.py",
        "@private\nclass Token(",
        "class Token(",
        "test_secrets",
    ),
    Mutant(
        "threat 25: what a template embeds can end its tag",
        "pagews/templating.py",
        "autoescape=True",
        "autoescape=False",
        "test_embedding",
    ),
    Mutant(
        "threat 28: an entry of the log that nobody can have filed is an error",
        "pagews/redis_codec.py",
        "    except (msgspec.MsgspecError, ValueError, RecursionError):\n",
        "    except ZeroDivisionError:\n",
        "test_fuzz_redis",
    ),
    Mutant(
        "threat 32: a frame that breaks the protocol is an error of the server",
        "pagews/wire.py",
        "    except (msgspec.DecodeError, ValueError, OverflowError) as error:\n",
        "    except ZeroDivisionError as error:\n",
        "test_fuzz",
    ),
)
