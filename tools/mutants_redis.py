"""Named faults in what stands between a node and Redis, and in what of a node only several nodes need.

Some lines of the rules cannot be tested by taking them away, for another one does the same: a page that attaches is
taken from those that are due (rule 27), and whoever takes what is due looks whether it is attached.
"""

from __future__ import annotations

from typing import Final

from tools.mutant import Mutant

BROKER: Final = "pagews/redis_broker.py"
BUS: Final = "pagews/redis_bus.py"
LINK: Final = "pagews/redis_link.py"
NODE: Final = "pagews/node.py"
ANSWER: Final = "pagews/scripts/answer.lua"
ATTACH: Final = "pagews/scripts/attach.lua"
CLAIM: Final = "pagews/scripts/claim.lua"
COMMON: Final = "pagews/scripts/common.lua"
COMPLETE: Final = "pagews/scripts/complete.lua"
DETACH: Final = "pagews/scripts/detach.lua"
END: Final = "pagews/scripts/end.lua"
GUARD: Final = "pagews/scripts/guard.lua"
PAGES: Final = "pagews/scripts/pages.lua"
PROBE: Final = "pagews/scripts/probe.lua"
PUBLISH: Final = "pagews/scripts/publish.lua"
READING: Final = "pagews/scripts/reading.lua"
REVOKE: Final = "pagews/scripts/revoke.lua"
TOPICS: Final = "pagews/scripts/topics.lua"

#: What every broker does.
BOTH: Final = "test_broker"
#: What there is to go wrong between several.
RULES: Final = "test_redis_rules"
#: What one step may cost, and what may be kept.
BOUNDS: Final = "test_redis_bounds"

REDIS_MUTANTS: Final = (
    # --- completeness
    Mutant("redis rule 1: the epoch is ignored", READING, "if cursor_epoch ~= epoch then", "if false then", BOTH),
    Mutant(
        "redis rule 1: a cursor from the future is taken",
        READING,
        "if tonumber(cursors[index]) > seq then",
        "if false then",
        BOTH,
    ),
    Mutant(
        "redis rule 1: the watermark is not looked at",
        READING,
        "if tonumber(cursors[index]) < watermark then",
        "if false then",
        BOTH,
    ),
    Mutant(
        "redis rule 1: the chain of predecessors is not looked at",
        READING,
        "if previous > channel.cursor then",
        "if false then",
        BOTH,
    ),
    Mutant(
        "redis rule 2: a channel can lose its last entry",
        COMMON,
        "        if #first < 2 then\n",
        "        if #first < 2 then\n            redis.call('DEL', key)\n",
        BOTH,
    ),
    Mutant(
        "redis rule 3: ticks do not raise the watermark",
        COMMON,
        "        watermark = math.max(watermark, tonumber(old))\n",
        "",
        BOTH,
    ),
    Mutant(
        "redis rule 3: the watermark is raised and not kept",
        COMMON,
        "'seq', digits(seq), 'watermark', digits(watermark), 'ticked',",
        "'seq', digits(seq), 'ticked',",
        BOTH,
    ),
    Mutant(
        "redis rule 3: a key expires before the watermark has passed it",
        COMMON,
        "    redis.call('PEXPIRE', key, milliseconds(retention + SAFETY))\n    save_seq()",
        "    redis.call('PEXPIRE', key, milliseconds(retention))\n    save_seq()",
        RULES,
    ),
    Mutant(
        "redis rule 3: what was filed before the retention grew has the new one",
        PROBE,
        "        age_ticks(tonumber(ARGV[6]) - retention)\n",
        "",
        RULES,
    ),
    Mutant("redis rule 4: what was evicted is ignored", PROBE, " or has_evicted then", " then", RULES),
    Mutant("redis rule 4: to reset the statistics evicts", PROBE, " and evicted ~= '0'\n", "\n", RULES),
    Mutant(
        "redis rule 4: any eviction policy will do",
        BUS,
        'if policy != "noeviction" and self._is_first:',
        "if False:",
        RULES,
    ),
    Mutant(
        "redis rule 5: a limited read claims to reach the head",
        READING,
        "            upto = found[index - 1][1]\n",
        "",
        BOTH,
    ),
    Mutant(
        "redis rule 5: a channel that is read less far than the others is passed over",
        READING,
        "            upto, more = open[least].last, 1\n",
        "            more = 1\n",
        BOTH,
    ),
    Mutant(
        "redis rule 5: the chunk is cut before it is sorted",
        READING,
        "    table.sort(found, function(one, other) return one[1] < other[1] end)\n",
        "",
        BOTH,
    ),
    Mutant(
        "redis rule 6: time takes no numbers",
        COMMON,
        "    seq = seq + 1\n    redis.call('ZADD', prefix .. 'ticks'",
        "    redis.call('ZADD', prefix .. 'ticks'",
        BOTH,
    ),
    Mutant(
        "redis rule 6: there are no ticks",
        COMMON,
        "    if now - ticked < 1 then\n",
        "    if true then\n",
        BOTH,
    ),
    Mutant(
        "redis rule 6: a record ends by time alone",
        PROBE,
        "        if may_resume then\n",
        "        if false then\n",
        BOTH,
    ),
    Mutant(
        "redis rule 6: the record of a page that was ended has an old head",
        END,
        "redis.call('HSET', key_of(page), 'head', digits(seq))\n",
        "",
        BOTH,
    ),
    # --- position
    Mutant(
        "redis rule 8: the position is what a probe answers",
        BUS,
        "        self._is_first = False\n        if epoch",
        "        self._is_first = False\n        self._position = Position(epoch.decode(), int(seq))\n        if epoch",
        RULES,
    ),
    Mutant(
        "redis rule 8: the start does not wait for the first probe",
        BUS,
        "heard = asyncio.create_task(self._heard.wait())",
        "heard: asyncio.Task[object] = asyncio.create_task(asyncio.sleep(0))",
        RULES,
    ),
    Mutant(
        "redis rule 10: a node delivers when its push is accepted",
        BROKER,
        "        self._filed = max(self._filed, int(number))\n",
        "        self._filed = max(self._filed, int(number))\n"
        "        self._receiver.deliver(channel, codec.filed(int(number), codec.push_body(draft)))\n",
        RULES,
    ),
    # --- attach
    Mutant(
        "redis rule 11: to subscribe does not wait",
        LINK,
        "        if pending:\n            await asyncio.wait(pending)\n\n    def want",
        "\n    def want",
        RULES,
    ),
    Mutant(
        "redis rule 11: the log is read before its channels are subscribed",
        NODE,
        "            await self.broker.subscribe(channels)\n"
        "            # When a crowd comes back, nothing else must wait behind all that it has missed.\n"
        "            async with self._reads:\n"
        "                _check_holding(page)\n"
        "                attached = await self.broker.attach(self._attach(page, arrival.cursor, arrival.topics))\n",
        "            attached = await self.broker.attach(self._attach(page, arrival.cursor, arrival.topics))\n"
        "            await self.broker.subscribe(channels)\n",
        RULES,
    ),
    Mutant(
        "redis rule 12: the end of a subscription is taken for its beginning",
        LINK,
        "            self._unconfirmed.extend([None] * len(known))\n",
        "",
        RULES,
    ),
    Mutant(
        "redis rule 12: a channel that is given up counts as subscribed",
        LINK,
        "_confirm(self._wanted.pop(channel))",
        "_confirm(self._wanted[channel])",
        RULES,
    ),
    Mutant(
        "redis rule 13: nobody is told of an interruption",
        BUS,
        "                self._receiver.interrupted()\n",
        "",
        RULES,
    ),
    Mutant(
        "redis rule 13: pages do not read again after an interruption",
        NODE,
        "            if was_live:\n",
        "            if False:\n",
        RULES,
    ),
    Mutant(
        "redis rule 13: a gap in what comes is not seen",
        BUS,
        "        return last is None or prev <= last\n",
        "        return True\n",
        RULES,
    ),
    Mutant(
        "redis rule 13: a new connection goes on with the numbers of the one before",
        BUS,
        "        self._lasts.clear()\n",
        "",
        RULES,
    ),
    Mutant(
        "redis rule 13: a silent connection is not noticed",
        BUS,
        "                self._has_gone(error)\n                self._doubted.set()\n",
        "                self._has_gone(error)\n",
        RULES,
    ),
    Mutant(
        "redis rule 13: a read counts though pub/sub was lost meanwhile",
        BROKER,
        "            if generation == self._generation:\n",
        "            if True:\n",
        RULES,
    ),
    Mutant(
        "redis rule 13: an attach counts though pub/sub was lost meanwhile",
        BROKER,
        "        if generation != self._generation:\n",
        "        if False:\n",
        RULES,
    ),
    Mutant(
        "redis rule 16: the last attempt wins, not the highest",
        ATTACH,
        "if record.document == document and attempt < tonumber(record.attempt) then",
        "if false then",
        BOTH,
    ),
    Mutant(
        "redis rule 16: an attempt that comes again is the same claim",
        ATTACH,
        "        again = tonumber(record.again or 0) + 1\n",
        "",
        BOTH,
    ),
    Mutant(
        "redis rule 16: the node that had a page is not told",
        ATTACH,
        "    if record.node ~= node then\n",
        "    if false then\n",
        RULES,
    ),
    Mutant(
        "redis rule 16: an old socket lets go of the page of a new one",
        DETACH,
        "if not record or record.document ~= ARGV[3] or record.attempt ~= ARGV[4]"
        " or (record.again or '0') ~= ARGV[5] then",
        "if not record then",
        BOTH,
    ),
    Mutant(
        "redis rule 16: a claim whose answer was lost lets go of the page of another node",
        BROKER,
        "await self._detach(hello.page_id, owner, owner.left, self._node)",
        "await self._detach(hello.page_id, owner, owner.left)",
        RULES,
    ),
    Mutant(
        "redis rule 17: any other document takes the page over",
        ATTACH,
        "if record.document ~= document and not record.left then",
        "if false then",
        BOTH,
    ),
    Mutant(
        "redis rule 17: a goodbye does not free the page",
        ATTACH,
        "if record.document ~= document and not record.left then",
        "if record.document ~= document then",
        BOTH,
    ),
    # --- epoch
    Mutant("redis rule 18: a server is like the other", PROBE, "known[1] ~= run_id or ", "", RULES),
    Mutant(
        "redis rule 18: numbers come again in the next log",
        PROBE,
        "seq = math.max(seq + 1, math.floor(now * 1000000))",
        "seq = seq + 1",
        RULES,
    ),
    Mutant(
        "redis rule 18: the two connections reach two servers",
        BUS,
        "        if line.run_id != calls.run_id:\n",
        "        if False:\n",
        RULES,
    ),
    Mutant(
        "redis rule 18: one connection stays with the server before",
        BUS,
        "if calling.done() or isinstance(error, TwoServers):",
        "if calling.done():",
        RULES,
    ),
    Mutant(
        "redis rule 18: calls go out before it is known to which log",
        LINK,
        "        self._line = line\n        watching = asyncio.create_task(self._watch())\n",
        "        self._line = line\n        self.open()\n        watching = asyncio.create_task(self._watch())\n",
        RULES,
    ),
    Mutant("redis rule 19: scripts ignore the epoch", GUARD, "if epoch ~= ARGV[1] then", "if false then", RULES),
    Mutant(
        "redis rule 19: messages of another log are delivered",
        BUS,
        "        if message.epoch != epoch:\n",
        "        if False:\n",
        RULES,
    ),
    Mutant(
        "redis rule 19: messages of another log are dropped in silence",
        BUS,
        "            if message.seq:\n                self._doubted.set()\n            return\n",
        "            return\n",
        RULES,
    ),
    Mutant(
        "redis rule 20: a script that meets another log does not begin anew",
        BUS,
        "                self._doubted.set()\n                await self._until_epoch_changes(epoch, until)\n",
        "                await self._until_epoch_changes(epoch, until)\n",
        RULES,
    ),
    Mutant(
        "redis rule 20: a probe that meets another log does not begin anew",
        BUS,
        "            if self._whole.is_set():\n                self._doubted.set()\n        for item in news",
        "        for item in news",
        RULES,
    ),
    Mutant(
        "redis rule 20: numbers of the old log are kept in the new one",
        BUS,
        "            self._filed = self._taken = 0\n            self._position",
        "            self._taken = 0\n            self._position",
        RULES,
    ),
    Mutant(
        "redis rule 20: an attached page is not claimed in the new log",
        NODE,
        "        attached = await self.broker.attach(self._attach(page, cursor, topics))\n",
        "        attached = Attached(Claim.GRANTED, False, topics, replay)\n",
        RULES,
    ),
    # --- join and leave
    Mutant("redis rule 21: a join is not announced", TOPICS, "file('page:' .. page, 't', '')\n", "", BOTH),
    Mutant(
        "redis rule 21: a joined topic has no since",
        TOPICS,
        "record['topic:' .. topic] or digits(seq)",
        "record['topic:' .. topic] or '0'",
        BOTH,
    ),
    Mutant(
        "redis rule 21: a joined topic is read from the cursor",
        ATTACH,
        "digits(math.max(from, tonumber(topics[index + 1])))",
        "digits(from)",
        BOTH,
    ),
    Mutant(
        "redis rule 21: a joined topic is read before it is confirmed",
        NODE,
        "            await self.broker.subscribe(new)\n",
        "            asyncio.ensure_future(self.broker.subscribe(new))\n",
        RULES,
    ),
    Mutant(
        "redis rule 22: revocation is not looked up at attach", ATTACH, "if is_revoked() then", "if false then", BOTH
    ),
    Mutant(
        "redis rule 22: a revocation ends the logins after it",
        ATTACH,
        "return ended and tonumber(ARGV[11]) <= tonumber(ended)",
        "return ended",
        BOTH,
    ),
    Mutant(
        "redis rule 22: a clock that is behind takes a revocation back",
        REVOKE,
        "before and tonumber(before) > tonumber(ARGV[3]) and before or ARGV[3]",
        "ARGV[3]",
        RULES,
    ),
    Mutant("redis rule 22: a revocation is not in the log", REVOKE, "file(ARGV[2], 'r', '')\n", "", BOTH),
    Mutant(
        "redis rule 22: a revocation that is read is passed over",
        NODE,
        'elif message.kind == "topics" or message.kind == "revoked":',
        'elif message.kind == "topics":',
        RULES,
    ),
    Mutant(
        "redis rule 22: revocation is not looked up when a page reads again",
        NODE,
        "            if await is_revoked(self.broker, page.session_id, page.user_id, page.since):\n",
        "            if False:\n",
        RULES,
    ),
    Mutant(
        "redis rule 22: revocation is not looked up in a new log",
        NODE,
        "        if attached.revoked:\n            self._end",
        "        if False:\n            self._end",
        RULES,
    ),
    Mutant(
        "redis rule 22: a logout that fails closes no pages",
        NODE,
        '            self.deliver(channel, Control("revoked", 0))\n',
        "",
        RULES,
    ),
    Mutant(
        "redis rule 22: a node that is cut off runs sends",
        BUS,
        "while not self._whole.is_set() or asyncio",
        "while asyncio",
        RULES,
    ),
    Mutant(
        "redis rule 22: a node that hears no probe runs sends",
        BUS,
        " or asyncio.get_running_loop().time() - self._heard_at > STALE:",
        ":",
        RULES,
    ),
    # --- publish, claims, answers
    Mutant(
        "redis rule 23: a call whose reply is lost is sent again",
        LINK,
        '                _fail(call, BrokerUnavailable("Redis was lost before it had answered", unknown=True))\n',
        "                self._waiting.append(call)\n",
        RULES,
    ),
    Mutant(
        "redis rule 23: a call whose reply is lost has not happened",
        LINK,
        '"Redis was lost before it had answered", unknown=True',
        '"Redis was lost before it had answered"',
        RULES,
    ),
    Mutant(
        "redis rule 23: a call that is refused may have happened",
        LINK,
        'BrokerUnavailable(f"Redis refuses: {reply}")',
        'BrokerUnavailable(f"Redis refuses: {reply}", unknown=True)',
        RULES,
    ),
    Mutant("redis rule 23: a key does not stop a repeat", PUBLISH, "    if filed then\n", "    if false then\n", BOTH),
    Mutant("redis rule 23: a key is that of two targets", PUBLISH, "#channel .. ' ' .. ", "", RULES),
    Mutant(
        "redis rule 24: an answer that cannot be read stays in front",
        BROKER,
        "        except ValueError:\n            # Those behind",
        "        except ZeroDivisionError:\n            # Those behind",
        RULES,
    ),
    Mutant(
        "redis rule 24: each notice asks for the answers",
        BROKER,
        "        if self._taking.locked():\n",
        "        if False:\n",
        RULES,
    ),
    Mutant(
        "redis rule 24: answers are lost that come while others are taken",
        BROKER,
        "        self._has_answers = True\n",
        "",
        RULES,
    ),
    Mutant(
        "redis rule 24: an answer is told and not filed",
        ANSWER,
        "    redis.call('RPUSH', key, ARGV[3])\n",
        "",
        BOTH,
    ),
    Mutant(
        "redis rule 24: answers are asked for when they are told alone",
        BUS,
        "        self._whole.set()\n        self._start(self._take_answers())\n",
        "        self._whole.set()\n",
        RULES,
    ),
    Mutant(
        "redis rule 24: an answer that was taken is taken again",
        BROKER,
        '                await self._calls(b"LTRIM", key, b"%d" % len(bodies), b"-1")\n',
        "                pass\n",
        BOTH,
    ),
    Mutant(
        "redis rule 25: the claim of a node that died is granted again",
        CLAIM,
        "- tonumber(ARGV[7]) then\n        return { 'ok', 'known'",
        "- tonumber(ARGV[7]) then\n        return { 'ok', 'free'",
        RULES,
    ),
    Mutant(
        "redis rule 25: nobody waits for a result",
        CLAIM,
        "return { 'ok', 'running', '', 0 }",
        "return { 'ok', 'known', '', 0 }",
        RULES,
    ),
    Mutant(
        "redis rule 25: a claim has no lease",
        CLAIM,
        "if not seen or tonumber(seen) <= math.min(now, probed + 1) - tonumber(ARGV[7]) then",
        "if not seen then",
        RULES,
    ),
    Mutant(
        "redis rule 25: time passes for nodes while nobody probes",
        CLAIM,
        "math.min(now, probed + 1) - tonumber(ARGV[7]) then",
        "now - tonumber(ARGV[7]) then",
        RULES,
    ),
    Mutant(
        "redis rule 25: whoever waits for a result is not told",
        COMPLETE,
        "in string.gmatch(claim, ' (%S+)') do",
        "in string.gmatch('', ' (%S+)') do",
        RULES,
    ),
    Mutant(
        "redis rule 25: a result is stored without a claim",
        COMPLETE,
        " or runner_of(claim) ~= node then",
        " then",
        RULES,
    ),
    Mutant(
        "redis rule 25: a send from before the log was lost runs",
        CLAIM,
        "if is_foreign or not record",
        "if not record",
        RULES,
    ),
    Mutant(
        "redis rule 25: a page that was ended forgets its claims",
        PAGES,
        "        redis.call('HSET', key_of(page), 'low', record.low)\n",
        "",
        BOTH,
    ),
    Mutant(
        "redis rule 27: gone comes for pages that never attached",
        PAGES,
        "    return record.document ~= nil\n",
        "    return true\n",
        BOTH,
    ),
    Mutant(
        "redis rule 27: gone comes again",
        PAGES,
        "    if record.gone then\n        return false\n    end\n",
        "",
        BOTH,
    ),
    Mutant(
        "redis rule 27: the pages of a node that died stay attached",
        PROBE,
        "            let_go(page, record)\n",
        "",
        RULES,
    ),
    Mutant(
        "redis rule 27: 200 pages a turn are let go, and no more",
        BUS,
        "        return bool(more or was_dead)\n",
        "        return False\n",
        RULES,
    ),
    Mutant(
        "redis rule 27: a page of a node that counts as dead stays attached",
        ATTACH,
        "redis.call('ZADD', prefix .. 'alive', 'NX', '-inf', node)\n",
        "",
        RULES,
    ),
    Mutant(
        "redis rule 27: a node is not told that it counted as dead",
        BUS,
        "        if was_dead or self._counted_as_dead:\n",
        "        if False:\n",
        RULES,
    ),
    # --- bounds
    Mutant(
        "redis bounds: a read goes on beyond its limit",
        READING,
        "        if found.size > limit then\n",
        "        if false then\n",
        BOUNDS,
    ),
    Mutant(
        "redis bounds: a crowd attaches at once",
        NODE,
        "            async with self._reads:\n                _check_holding(page)\n",
        "            if True:\n                _check_holding(page)\n",
        BOUNDS,
    ),
    Mutant(
        "redis bounds: who has gone while it waited to attach is read for",
        NODE,
        "                _check_holding(page)\n                attached = ",
        "                attached = ",
        BOUNDS,
    ),
    Mutant(
        "redis bounds: a page that was ended is due every second",
        PAGES,
        "record.left and not record.gone and grace",
        "record.left and grace",
        BOUNDS,
    ),
    Mutant(
        "redis bounds: a page is kept for ever when no worker comes back",
        PAGES,
        "        redis.call('PEXPIRE', key, milliseconds(seconds + ABANDONED))\n",
        "",
        BOUNDS,
    ),
    Mutant(
        "redis bounds: what is kept of an attached page expires",
        ATTACH,
        "    redis.call('PERSIST', key)\n",
        "",
        BOUNDS,
    ),
    Mutant("redis bounds: answers are taken all at once", BROKER, 'b"%d" % (ANSWERS - 1)', 'b"-1"', BOUNDS),
    Mutant(
        "redis bounds: answers to a node that has died have no bound",
        ANSWER,
        " or 0) < MOST_BYTES then",
        " or 0) >= 0 then",
        BOUNDS,
    ),
    # --- the connection for calls
    Mutant(
        "redis link: a line is lost for what a call has waited before it",
        LINK,
        "self._sent[0].sent_at + self._timeout <= before",
        "self._sent[0].deadline <= before",
        "test_redis_link",
    ),
    Mutant(
        "redis link: a call that waited for a line may take as long again",
        LINK,
        "                if call.deadline <= before:\n",
        "                if False:\n",
        "test_redis_link",
    ),
    Mutant(
        "redis link: a line that does not answer is kept",
        LINK,
        "                raise TimeoutError(late)\n",
        "                pass\n",
        "test_redis_link",
    ),
    Mutant(
        "redis link: what is dropped takes its room for ever",
        LINK,
        "        self._bytes -= len(call.request)\n",
        "",
        "test_redis_link",
    ),
    Mutant(
        "redis link: a connection to what is no Redis stays open",
        LINK,
        "        except BaseException:\n            await connection.disconnect(nowait=True)\n            raise\n",
        "        except BaseException:\n            raise\n",
        "test_redis_link",
    ),
    Mutant(
        "redis link: what is no Redis is asked again at once",
        BUS,
        "                pause = FIRST_PAUSE if not self._is_away else min(2 * pause, LAST_PAUSE)\n",
        "                pause = FIRST_PAUSE\n",
        "test_redis_link",
    ),
)
